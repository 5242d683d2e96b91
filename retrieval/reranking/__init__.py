"""What the ranker reads: pictures described by vector, tokens and metadata, and the features of a pair."""
