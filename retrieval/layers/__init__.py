"""The building blocks of CoAtNet, one idea a file."""
