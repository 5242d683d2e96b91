"""What an evaluation is made of: rankings in chunks, rivals, oracles and intervals."""
