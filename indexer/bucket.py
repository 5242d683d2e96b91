"""One bucket: the rows of one width under their ids, and the candidates that it proposes for a query."""

from abc import ABC, abstractmethod
from collections.abc import Iterator

import faiss
import numpy as np

_BLOCK = 16384  # rows looked at together in a scan; bounds the memory of one


class Bucket(ABC):
    """The rows of one width and their ids; subclasses hold the rows and propose candidates.

    A position is a row's number in the bucket; a mask `allowed` (num_rows,) bool says which rows to look at, None all.
    """

    num_spare = 16
    """Candidates to take beyond the ones wanted: room to see whether a tie crosses the cut."""

    rounding = 4e-6
    """How far a candidate's score may be off where vectors and queries have unit length: float32 sums."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.ids = np.empty(0, dtype=np.int64)
        self._sorted_ids: list[np.ndarray] = []
        self._order_of_ids = np.empty(0, dtype=np.int64)

    @property
    def num_rows(self) -> int:
        return len(self.ids)

    def add(self, ids: np.ndarray, rows: np.ndarray) -> None:
        """Add `rows` (N, width) float32 or float16, under `ids` (N,) int64, at least one, none of them known."""
        self._hold(rows)
        self.ids = np.concatenate([self.ids, ids])
        self._sorted_ids.append(np.sort(ids))

    def known_of(self, ids: np.ndarray) -> np.ndarray:
        """Those of the sorted `ids`, at least one, that are here already."""
        # Ids mostly arrive in rising runs, so hardly any that came together overlap with new ones: this stays cheap.
        overlapping = [held for held in self._sorted_ids if held[0] <= ids[-1] and ids[0] <= held[-1]]
        return ids[np.isin(ids, np.concatenate(overlapping))] if overlapping else ids[:0]

    def find(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which of the `ids` (K,) are here, as their places in it, and the positions of their rows."""
        if len(self._order_of_ids) != self.num_rows:
            self._order_of_ids = np.argsort(self.ids, kind="stable")
        order = self._order_of_ids
        if not len(order):
            return order, order
        nearest = order[np.searchsorted(self.ids, ids, sorter=order).clip(max=len(order) - 1)]
        (places,) = np.nonzero(self.ids[nearest] == ids)
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
        scores, positions = np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        for block_positions, rows in self._blocks(allowed):
            block_scores, nearest = faiss.knn(queries, rows, min(num_candidates, len(rows)), faiss.METRIC_INNER_PRODUCT)
            scores = np.concatenate([scores, block_scores], axis=1)
            positions = np.concatenate([positions, block_positions[nearest]], axis=1)
            scores, positions = best(num_candidates, scores, positions)
        return scores, positions

    def at_least(
        self, queries: np.ndarray, floors: np.ndarray, allowed: np.ndarray | None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Pairs of query and position whose score is `floors` (Q,) or more, a block of rows at a time."""
        for positions, rows in self._blocks(allowed):
            query_of_pair, reaching = np.nonzero(queries @ rows.T >= floors[:, None])
            yield query_of_pair, positions[reaching]

    def _blocks(self, allowed: np.ndarray | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        positions = np.arange(self.num_rows) if allowed is None else np.flatnonzero(allowed)
        for start in range(0, len(positions), _BLOCK):
            some = slice(start, start + _BLOCK)
            yield positions[some], self.rows(some if allowed is None else positions[some])


def best(num: int, scores: np.ndarray, *others: np.ndarray) -> tuple[np.ndarray, ...]:
    """The columns of the `num` highest scores of each row, in no order; all columns where there are no more."""
    if scores.shape[1] <= num:
        return (scores, *others)
    columns = np.argpartition(scores, -num, axis=1)[:, -num:]
    return tuple(np.take_along_axis(array, columns, axis=1) for array in (scores, *others))
