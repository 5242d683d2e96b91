"""One bucket: the rows of one width under their ids, and the candidates that it proposes for a query."""

from abc import ABC, abstractmethod
from collections.abc import Iterator

import faiss
import numpy as np

_BLOCK = 16384  # rows looked at together in a scan; bounds the memory of one


class Bucket(ABC):
    """The rows of one width and their ids; subclasses hold the rows and propose candidates.

    A position is a row's number in the bucket, the dead ones among them: rows that are only passed over, since to leave
    them out would copy a file. A mask `allowed` (positions,) bool says which rows to look at, none of them dead; None:
    all that live.
    """

    num_spare = 16
    """Candidates to take beyond the ones wanted: room to see whether a tie crosses the cut."""

    rounding = 4e-6
    """How far a candidate's score may be off where vectors and queries have unit length: float32 sums."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.ids = np.empty(0, dtype=np.int64)  # of each position, -1 for a dead row
        self.live: np.ndarray | None = None  # (positions,) bool, None while every row is
        self.num_rows = 0
        self._sorted_ids: list[np.ndarray] = []
        self._largest_id = -1
        self._order_of_ids = np.empty(0, dtype=np.int64)

    def add(self, ids: np.ndarray, rows: np.ndarray, **given) -> None:
        """Add `rows` (N, width) float32 or float16, under `ids` (N,) int64, one or more, none known; -1: a dead row."""
        self._hold(rows, **given)
        self.ids = np.concatenate([self.ids, ids])
        ids = np.sort(ids[ids >= 0])
        self.num_rows += len(ids)
        if self.num_rows < len(self.ids):
            self.live = self.ids >= 0
        if len(ids):
            self._sorted_ids.append(ids)
            self._largest_id = max(self._largest_id, ids[-1])

    def known_of(self, ids: np.ndarray) -> np.ndarray:
        """Those of the sorted `ids`, at least one, that are here already."""
        if ids[0] > self._largest_id:  # most often: ids mostly arrive in rising runs
            return ids[:0]
        overlapping = [held for held in self._sorted_ids if held[0] <= ids[-1] and ids[0] <= held[-1]]
        return ids[np.isin(ids, np.concatenate(overlapping))] if overlapping else ids[:0]

    def find(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which of the `ids` (K,) are here, as their places in it, and the positions of their rows."""
        if len(self._order_of_ids) != len(self.ids):
            self._order_of_ids = np.argsort(self.ids, kind="stable")
        order = self._order_of_ids
        if not len(order):
            return order, order
        nearest = order[np.searchsorted(self.ids, ids, sorter=order).clip(max=len(order) - 1)]
        (places,) = np.nonzero((self.ids[nearest] == ids) & (ids >= 0))
        return places, nearest[places]

    @abstractmethod
    def rows(self, selection: slice | np.ndarray) -> np.ndarray:
        """The selected rows, (N, width) float32."""

    @abstractmethod
    def _hold(self, rows: np.ndarray) -> None:
        """Keep further rows, behind the ones that are there."""

    @abstractmethod
    def compares_all(self, allowed: np.ndarray | None) -> bool:
        """Whether candidates are the true nearest rows rather than an approximation."""

    @abstractmethod
    def candidates(
        self, queries: np.ndarray, num_candidates: int, allowed: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rough scores and positions, (Q, num_candidates) each, a position of -1 where there is none.

        `queries` (Q, width) float32, contiguous; `num_candidates` is at most the number of allowed rows.
        """

    def scan(
        self, queries: np.ndarray, num_candidates: int, allowed: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `candidates`, comparing every allowed row, a block of them at a time."""
        found = nothing(len(queries))
        for positions, rows in self._blocks(allowed):
            scores, nearest = faiss.knn(queries, rows, min(num_candidates, len(rows)), faiss.METRIC_INNER_PRODUCT)
            found = best(num_candidates, *joined(found, (scores, np.where(nearest < 0, -1, positions[nearest]))))
        return found

    def at_least(
        self, queries: np.ndarray, floors: np.ndarray, allowed: np.ndarray | None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Pairs of query and position whose score is `floors` (Q,) or more, a block of rows at a time."""
        for positions, rows in self._blocks(allowed):
            query_of_pair, reaching = np.nonzero(queries @ rows.T >= floors[:, None])
            yield query_of_pair, positions[reaching]

    def _blocks(self, allowed: np.ndarray | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        mask = self.live if allowed is None else allowed
        positions = np.arange(len(self.ids)) if mask is None else np.flatnonzero(mask)
        for start in range(0, len(positions), _BLOCK):
            some = slice(start, start + _BLOCK)
            yield positions[some], self.rows(some if mask is None else positions[some])


def nothing(num_queries: int) -> tuple[np.ndarray, np.ndarray]:
    """No candidates: scores and positions, (Q, 0) each."""
    return np.empty((num_queries, 0), np.float32), np.empty((num_queries, 0), np.int64)


def joined(found: tuple[np.ndarray, ...], more: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    """Scores and positions, those of each query beside each other."""
    return tuple(np.concatenate(arrays, axis=1) for arrays in zip(found, more, strict=True))


def best(num: int, scores: np.ndarray, *others: np.ndarray) -> tuple[np.ndarray, ...]:
    """The columns of the `num` highest scores of each row, in no order; all columns where there are no more."""
    if scores.shape[1] <= num:
        return (scores, *others)
    columns = np.argpartition(scores, -num, axis=1)[:, -num:]
    return tuple(np.take_along_axis(array, columns, axis=1) for array in (scores, *others))
