"""A bucket with an approximate index over its rows, of whichever type FAISS can make from a string."""

import faiss
import numpy as np

from indexer.bucket import Bucket
from indexer.row_pieces import RowPieces
from retrieval.errors import UsageError

_SCAN_BELOW = 10_000  # rows that are compared faster than an approximate index over them is built
_BLOCK = 16384  # rows added to it together


class FactoryBucket(Bucket):
    """Rows as they were given, with an approximate FAISS index over them, built when first searched.

    Raises `UsageError` for an `index_type` that FAISS does not know, or not for this width.
    """

    def __init__(self, width: int, dtype: np.dtype, index_type: str) -> None:
        super().__init__(width)
        self._pieces = RowPieces(width, dtype)
        self._index = _empty_index(width, index_type)
        ivf = faiss.try_extract_index_ivf(self._index)
        self._num_centroids = max(256, ivf.nlist) if ivf else 256  # a product quantiser has 256
        if ivf:
            ivf.nprobe = -(-ivf.nlist // 8)  # FAISS's own default looks into a single list and misses most neighbours

    def _hold(self, rows):
        self._pieces.append(rows)

    def rows(self, selection):
        return self._pieces.take(selection)

    def compares_all(self, allowed):
        # Not every index type honours a selector (HNSW may ignore it), so what is allowed is compared row by row.
        # FAISS wants 39 rows a centroid to train on.
        return allowed is not None or self.num_rows < max(_SCAN_BELOW, 39 * self._num_centroids)

    def candidates(self, queries, num_candidates, allowed):
        if self.compares_all(allowed):
            return self.scan(queries, num_candidates, allowed)
        self._catch_up()
        return self._index.search(queries, num_candidates)

    def _catch_up(self) -> None:
        if not self._index.is_trained:
            num_samples = min(self.num_rows, 256 * self._num_centroids)
            # Spread over all rows: a corpus often comes sorted by kind.
            self._index.train(self.rows(np.linspace(0, self.num_rows - 1, num_samples).astype(np.int64)))
        while self._index.ntotal < self.num_rows:
            self._index.add(self.rows(slice(self._index.ntotal, self._index.ntotal + _BLOCK)))


def _empty_index(width: int, index_type: str) -> faiss.Index:
    if "IDMap" in index_type:
        raise UsageError(
            f"expected a FAISS factory string without IDMap, got {index_type!r}; ids are kept here: leave it out"
        )
    try:
        return faiss.index_factory(width, index_type, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        reason = " ".join(str(error).rpartition("Error: ")[2].split())
        raise UsageError(
            f"expected a FAISS factory string for vectors of {width} numbers, got {index_type!r} ({reason}); "
            'try "Flat" or "HNSW32"'
        ) from None
