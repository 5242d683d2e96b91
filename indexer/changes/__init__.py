"""What changes an index, and what is read to change it: adding, removing, compacting, importing, encoding anew."""
