"""A bucket that compares every row with the query, on the CPU or a GPU, but where an approximate index is at hand."""

import faiss
import numpy as np

from indexer.vectors.bucket import Bucket, best, joined, nothing
from indexer.vectors.row_pieces import Piece, RowPieces, empty_index

_GPU_MAX_CANDIDATES = 2048  # what FAISS's GPU kernels can select
_SCAN_WITHIN = 20  # times the wanted candidates: of so few rows an approximate index would propose most


class FlatBucket(Bucket):
    """Rows where they lie, all of them compared; with `gpu_resources`, a copy of them on the GPU does where it can.

    Of rows that were added with an approximate index, a search of all compares those that it proposes.
    """

    def __init__(self, width: int, dtype: np.dtype, gpu_resources) -> None:
        super().__init__(width)
        self._dtype = dtype
        self._pieces = RowPieces(width, dtype)
        self._gpu_resources = gpu_resources
        self._gpu_index = None
        if gpu_resources is not None and dtype == np.float16:
            self.num_spare, self.rounding = 64, 5e-4  # beside a float16 index FAISS rounds queries to 11 bits there

    def _hold(self, rows, approximate=None):
        self._pieces.append(rows, approximate)
        self._gpu_index = None

    def rows(self, selection):
        return self._pieces.take(selection)

    def compares_all(self, allowed):
        return allowed is not None or self._gpu_resources is not None or not self._pieces.has_approximate

    def candidates(self, queries, num_candidates, allowed):
        if allowed is None and self._gpu_resources is not None and num_candidates <= _GPU_MAX_CANDIDATES:
            scores, nearest = self._on_gpu().search(queries, num_candidates)
            return scores, nearest if self.live is None else np.flatnonzero(self.live)[nearest]
        # FAISS scans float16 without BLAS: from some 50 queries on, decoding the rows and multiplying is faster.
        if allowed is None and self._dtype == np.float16 and len(queries) >= 48 and self.compares_all(None):
            return self.scan(queries, num_candidates, None)
        mask = self.live if allowed is None else allowed
        found = nothing(len(queries))
        for piece in self._pieces:
            looked_at = None if mask is None else mask[piece.span]
            search = _search if self.compares_all(allowed) or piece.approximate is None else self._search_some
            scores, nearest = search(piece, queries, num_candidates, looked_at)
            positions = np.where(nearest < 0, -1, piece.span.start + nearest)
            found = best(num_candidates, *joined(found, (scores, positions)))
        return found

    def _search_some(self, piece, queries, num_candidates, mask):
        """As `_search`, by what the piece's index proposes; of queries for which that is too little, all rows."""
        num_rows = piece.view.ntotal if mask is None else int(np.count_nonzero(mask))
        if num_rows < _SCAN_WITHIN * num_candidates:
            return _search(piece, queries, num_candidates, mask)
        scores, nearest = piece.approximate.candidates(
            queries, num_candidates, lambda positions: self._pieces.take(piece.span.start + positions), mask
        )
        short = (nearest < 0).any(axis=1)
        if short.any():
            scores[short], nearest[short] = _search(piece, queries[short], num_candidates, mask)
        return scores, nearest

    def _on_gpu(self):
        if self._gpu_index is None:
            options = faiss.GpuClonerOptions()
            options.useFloat16 = self._dtype == np.float16
            index = empty_index(self.width, self._dtype)
            for _, rows in self._blocks(None):
                index.add(rows)
            self._gpu_index = faiss.index_cpu_to_gpu(self._gpu_resources, 0, index, options)
        return self._gpu_index


def _search(piece: Piece, queries: np.ndarray, num_candidates: int, mask: np.ndarray | None):
    """As `Bucket.candidates`, of one piece, whose rows to look at are set in `mask`: all of them, where it is None."""
    view = piece.view
    num_rows = view.ntotal if mask is None else int(np.count_nonzero(mask))
    if not num_rows:
        return nothing(len(queries))
    if num_rows == view.ntotal:
        return view.search(queries, min(num_candidates, num_rows))
    bits = np.packbits(mask, bitorder="little")  # FAISS reads them where they lie
    parameters = faiss.SearchParameters(sel=faiss.IDSelectorBitmap(bits))
    # faiss.contrib.torch_utils, which training imports, hides FAISS's own search behind one without params.
    search = getattr(view, "search_numpy", view.search)
    return search(queries, min(num_candidates, num_rows), params=parameters)
