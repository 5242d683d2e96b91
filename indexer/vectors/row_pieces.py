"""The rows of a bucket where they lie, in memory or in a mapped file, and FAISS's view of them there."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import faiss
import numpy as np

_SMALL = 1 << 20  # bytes; a piece of fewer takes in the next small one, so that many small ones are scanned as one


class Piece(NamedTuple):
    """The rows `span` of a bucket, a FAISS `view` that compares them all where they lie, and what was given with them.

    That is an index over them, for searches that may miss some, or None.
    """

    span: slice
    view: faiss.Index
    approximate: Any


class RowPieces:
    """Rows of `width` numbers, kept as `dtype` and read as float32; a large piece is kept as it was given, uncopied."""

    def __init__(self, width: int, dtype: np.dtype) -> None:
        self._width = width
        self._dtype = dtype
        self._pieces: list[np.ndarray] = []
        self._approximate: list[Any] = []  # of each piece, None where there is none
        self._starts = np.zeros(1, dtype=np.int64)  # of each piece, and the end of the last
        self._views: dict[int, faiss.Index] = {}
        self._decoder = empty_index(width, dtype)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def append(self, rows: np.ndarray, approximate: Any = None) -> None:
        """Keep further rows (N, width), float32 or float16: a piece of their own where an index over them is given."""
        rows = np.ascontiguousarray(rows, dtype=self._dtype).view(np.ndarray)  # np.memmap makes each access slower
        given = [approximate, *self._approximate[-1:]]
        if self._pieces and given == [None, None] and max(rows.nbytes, self._pieces[-1].nbytes) < _SMALL:
            rows = np.concatenate([self._pieces.pop(), rows])
            self._approximate.pop()
            self._views.pop(len(self._pieces), None)
        self._pieces.append(rows)
        self._approximate.append(approximate)
        self._starts = np.cumsum([0, *map(len, self._pieces)])

    def take(self, selection: slice | np.ndarray) -> np.ndarray:
        """The selected rows, (N, width) float32."""
        if isinstance(selection, slice):
            begin, end, _ = selection.indices(len(self))
            owner = self._owner(begin)
            if end <= self._starts[owner + 1]:  # nearly always: nothing is copied but by decoding
                return self._decoded(self._pieces[owner][begin - self._starts[owner] : end - self._starts[owner]])
            selection = np.arange(begin, end)
        owners = self._owner(selection)
        rows = np.empty((len(selection), self._width), dtype=self._dtype)
        for owner in np.unique(owners):
            mine = owners == owner
            rows[mine] = self._pieces[owner][selection[mine] - self._starts[owner]]
        return self._decoded(rows)

    def __iter__(self) -> Iterator[Piece]:
        for number, rows in enumerate(self._pieces):
            if number not in self._views:
                self._views[number] = _view(rows)
            span = slice(*self._starts[number : number + 2].tolist())
            yield Piece(span, self._views[number], self._approximate[number])

    @property
    def has_approximate(self) -> bool:
        """Whether an index was given with any of the rows."""
        return any(index is not None for index in self._approximate)

    def _owner(self, positions):
        return np.searchsorted(self._starts[1:-1], positions, side="right")

    def _decoded(self, rows: np.ndarray) -> np.ndarray:
        # FAISS decodes float16 several times faster than numpy.
        return rows if self._dtype == np.float32 else self._decoder.sa_decode(_codes(rows))


def empty_index(width: int, dtype: np.dtype) -> faiss.Index:
    """A FAISS index that is to compare every row, each stored as plain numbers of `dtype`."""
    if dtype == np.float16:
        return faiss.IndexScalarQuantizer(width, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    return faiss.IndexFlatIP(width)


def _view(rows: np.ndarray) -> faiss.Index:
    """A FAISS index over contiguous rows where they lie: they must outlive it."""
    index = empty_index(rows.shape[1], rows.dtype)
    if not hasattr(faiss, "MaybeOwnedVectorUInt8"):  # FAISS before 1.11 can only copy
        index.add_sa_codes(_codes(rows))
        return index
    nobody = faiss.MaybeOwnedVectorUInt8()  # whose owner is none: numpy is
    index.codes = faiss.MaybeOwnedVectorUInt8.create_view(faiss.swig_ptr(_codes(rows)), rows.nbytes, nobody.owner)
    index.ntotal = len(rows)
    return index


def _codes(rows: np.ndarray) -> np.ndarray:
    return rows.view(np.uint8)
