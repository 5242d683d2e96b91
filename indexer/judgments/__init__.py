"""What people said of hits, as it comes in; and the rankers of an index, by their names."""
