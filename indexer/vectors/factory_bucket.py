"""A bucket with an approximate index over its rows, of whichever type FAISS can make from a string."""

import faiss
import numpy as np

from indexer.vectors import faiss_factory
from indexer.vectors.bucket import Bucket
from indexer.vectors.row_pieces import RowPieces

_SCAN_BELOW = 10_000  # rows that are compared faster than an approximate index over them is built


class FactoryBucket(Bucket):
    """Rows as they were given, with an approximate FAISS index over them, built when first searched.

    Raises `UsageError` for an `index_type` that FAISS does not know, or not for this width.
    """

    def __init__(self, width: int, dtype: np.dtype, index_type: str) -> None:
        super().__init__(width)
        self._pieces = RowPieces(width, dtype)
        self._index = faiss_factory.empty_index(width, index_type)
        ivf = faiss.try_extract_index_ivf(self._index)
        if ivf:
            ivf.nprobe = -(-ivf.nlist // 8)  # FAISS's own default looks into a single list and misses most neighbours

    def _hold(self, rows):
        self._pieces.append(rows)

    def rows(self, selection):
        return self._pieces.take(selection)

    def compares_all(self, allowed):
        # Not every index type honours a selector (HNSW may ignore it), so what is allowed is compared row by row.
        # FAISS wants 39 rows a centroid to train on.
        return allowed is not None or self.num_rows < max(_SCAN_BELOW, 39 * faiss_factory.num_centroids(self._index))

    def candidates(self, queries, num_candidates, allowed):
        if self.compares_all(allowed):
            return self.scan(queries, num_candidates, allowed)
        faiss_factory.fill(self._index, self._pieces)
        return self._index.search(queries, num_candidates)
