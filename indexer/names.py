"""One picture under several names: rows of a catalog whose files hold the same bytes.

The rule. Every name (id) has a row of its own: its uri, its label and columns, its own copy of the vector and tokens.
So any name may be removed, renamed, changed, copied into another segment or exported without a thought for the others.
What rows have in common, the sha256, makes them one picture. A search looks at one row of a picture alone, the
*first*: that with the lowest id among the live ones, whichever was added first. A hit tells the other ids in `names`.
A condition holds for a picture where it holds for the row of any of its names; the hit is then the first that meets
it. The manifest counts the rows that are not the first (`num_duplicates`): where there are none, nobody looks for them.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


class Names:
    """The pictures of a catalog that have several names, each given as its rows' ids by row number, the first first."""

    def __init__(self, pictures: Sequence[dict[int, str]] = ()):
        self._picture_of = {row: picture for picture in pictures for row in picture}
        self._rows = np.sort(np.fromiter(self._picture_of, np.int64, len(self._picture_of)))
        firsts = [next(iter(self._picture_of[row])) for row in self._rows.tolist()]
        self._firsts = np.array(firsts, dtype=np.int64)
        place_of = {row: place for picture in pictures for place, row in enumerate(picture)}
        self._places = np.array([place_of[row] for row in self._rows.tolist()], dtype=np.int64)

    @property
    def further(self) -> np.ndarray:
        """The numbers (N,) int64, rising, of the rows that a search does not look at."""
        return self._rows[self._firsts != self._rows]

    def firsts(self, numbers: np.ndarray) -> np.ndarray:
        """For each of the live rows `numbers` the one that a search looks at in its place, in the same shape."""
        if not len(self._rows):
            return numbers
        places = np.searchsorted(self._rows, numbers).clip(max=len(self._rows) - 1)
        return np.where(self._rows[places] == numbers, self._firsts[places], numbers)

    def shown(self, numbers: np.ndarray, matching: np.ndarray | None) -> np.ndarray:
        """The rows by which to show what was found as `numbers` (K,): the first of each picture among `matching`.

        `matching` (M,), rising, are the live rows that meet a condition, one of each picture at least; None all.
        """
        if matching is None or not len(self._rows):
            return numbers
        mine = np.flatnonzero(np.isin(self._rows, matching))
        mine = mine[np.lexsort((self._places[mine], self._firsts[mine]))]
        pictures, starts = np.unique(self._firsts[mine], return_index=True)
        if not len(pictures):
            return numbers
        firsts = self.firsts(numbers)
        found = np.searchsorted(pictures, firsts).clip(max=len(pictures) - 1)
        return np.where(pictures[found] == firsts, self._rows[mine[starts]][found], numbers)

    def others(self, number: int) -> tuple[str, ...]:
        """The ids of the other rows of a row's picture, in order."""
        return tuple(name for row, name in self._picture_of.get(number, {}).items() if row != number)


def find(ids: pa.ChunkedArray, sha256s: pa.ChunkedArray, live: np.ndarray) -> Names:
    """The names in a catalog of N rows, given its columns and which of the rows are `live` (N,) bool."""
    counts = pc.value_counts(sha256s.filter(pa.array(live)))
    repeated = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    (rows,) = np.nonzero(pc.is_in(sha256s, repeated).to_numpy() & live)
    pictures: dict[str, list[tuple[str, int]]] = {}
    chosen = pa.array(rows)
    for row, name, sha256 in zip(rows.tolist(), *(c.take(chosen).to_pylist() for c in (ids, sha256s)), strict=True):
        pictures.setdefault(sha256, []).append((name, row))
    return Names([{row: name for name, row in sorted(picture)} for picture in pictures.values()])


def num_duplicates(sha256s: Iterable[str]) -> int:
    """How many of an index's live rows are further names of a picture, given the sha256 of each row."""
    counted = [*sha256s]
    return len(counted) - len({*counted})
