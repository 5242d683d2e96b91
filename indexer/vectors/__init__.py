"""Vectors in FAISS: buckets of one width, exact or approximate, and one ranking from several."""
