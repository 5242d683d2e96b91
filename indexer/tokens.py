"""The local tokens of all images of an index, as they lie on disk: a reranker takes those of its candidates alone."""

from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np

from indexer.segments import Segment
from indexer.storage import token_files
from retrieval.errors import DamagedError, UsageError

if TYPE_CHECKING:
    from retrieval.tokens import Tokens

_MOST_MAPPED = 512  # each segment's file that is mapped holds a file descriptor, and a process often has 1024


class StoredTokens:
    """The tokens of the rows of a gallery's catalog, by their numbers.

    The files are read when they are first asked for: the counts of all rows at once (a byte each), the values row by
    row. Rows of segments that were written without tokens have none.
    """

    def __init__(self, segments: Sequence[Segment]):
        self._segments = tuple(segments)
        self._firsts = np.cumsum([0, *(segment.record.rows.num for segment in self._segments)])
        self._mapped = lru_cache(_MOST_MAPPED)(self._map)

    def __len__(self) -> int:
        """How many rows the catalog has, the deleted ones among them."""
        return int(self._firsts[-1])

    def take(self, numbers: np.ndarray) -> "Tokens":
        """The tokens of the rows (K,) int64, in that order, none for a row that has none; raises `DamagedError`."""
        from retrieval.tokens import Tokens, rows_of  # imports torch, which a search without tokens does without

        numbers = self._checked(numbers)
        order = np.argsort(numbers, kind="stable")
        rising = numbers[order]
        counts = self._counts[rising].astype(np.int64)
        places = rows_of(self._starts[rising], counts)
        owners = np.searchsorted(self._firsts, rising, side="right") - 1
        values = np.empty((len(places), self.token_dim), np.int8)
        begin, ends = 0, np.cumsum(counts)
        for last in np.flatnonzero(np.diff(owners, append=-1)):  # of the rows of each segment
            end = int(ends[last])
            if end > begin:
                # The places fit the file, which `_map` has seen to; any other mode would copy once more.
                mapped = self._mapped(int(owners[last]))
                mapped.take(places[begin:end], axis=0, out=values[begin:end], mode="clip")
            begin = end
        return Tokens(values=values, counts=counts).take(np.argsort(order))

    def _checked(self, numbers: np.ndarray) -> np.ndarray:
        numbers = np.asarray(numbers, dtype=np.int64)
        if numbers.size and not 0 <= numbers.min() <= numbers.max() < len(self):
            raise UsageError(f"expected rows 0..{len(self) - 1}, got {numbers.min()}..{numbers.max()}")
        return numbers

    @cached_property
    def _counts(self) -> np.ndarray:
        """(rows,) uint8."""
        return np.concatenate([token_files.read_counts(segment.home, segment.record) for segment in self._segments])

    @cached_property
    def _starts(self) -> np.ndarray:
        """(rows,) int64: where the tokens of each row begin in its segment's file."""
        ends = np.concatenate([[0], np.cumsum(self._counts, dtype=np.int64)])
        nums_rows = np.diff(self._firsts)
        return ends[:-1] - np.repeat(ends[self._firsts[:-1]], nums_rows)

    @cached_property
    def token_dim(self) -> int:
        """Numbers of a token; raises `DamagedError`."""
        owner = next(owner for owner, segment in enumerate(self._segments) if segment.record.token_bytes)
        return self._values(owner).shape[1]

    def _map(self, owner: int) -> np.ndarray:
        values = self._values(owner)
        if values.shape[1] != self.token_dim:
            home = self._segments[owner].home
            raise DamagedError(f"expected tokens of {self.token_dim} numbers in {home}, got {values.shape[1]}")
        return values

    def _values(self, owner: int) -> np.ndarray:
        segment = self._segments[owner]
        first, end = self._firsts[owner : owner + 2]
        num_tokens = int(self._counts[first:end].sum(dtype=np.int64))
        # As a plain array: numpy's own class for mapped files makes each access slower.
        return np.asarray(token_files.read_values(segment.home, segment.record, num_tokens))
