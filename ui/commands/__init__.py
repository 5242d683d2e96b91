"""The commands of `spyglass`, one a file, and what they share with no other face."""
