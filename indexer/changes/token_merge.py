"""The tokens of one segment while they are added to: those that it has, and those that are made anew."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from indexer.segments import Segment
from indexer.storage import token_files
from indexer.storage.records import SegmentRecord
from retrieval.tokens import Tokens, rows_of


class TokenMerge:
    """A segment that is to have up to `token_bytes` of tokens an image, each token of `token_dim` bytes.

    `wanted` (rows,) bool says which of its images have to be encoded for that, `num_waiting` how many still have to.
    What an image has is kept until it is encoded anew; too many of its tokens are cut, which gives the same as encoding
    does, as an image's tokens are in the order of their worth.
    """

    def __init__(self, segment: Segment, live: np.ndarray, *, token_bytes: int, token_dim: int):
        self.record = segment.record
        self._home = segment.home
        self._token_bytes = token_bytes
        self._token_dim = token_dim
        self._counts = token_files.read_counts(segment.home, segment.record).astype(np.int64)
        self.wanted = live & ((self._counts == 0) | (self.record.token_bytes < token_bytes))
        self.num_waiting = int(self.wanted.sum())
        self._made: list[tuple[Sequence[int], Tokens]] = []

    def add(self, numbers: Sequence[int], tokens: Tokens) -> None:
        """Take the tokens of the rows `numbers`."""
        # First the tokens, then the count: Ctrl-C may come between the two.
        self._made.append((numbers, tokens))
        self.num_waiting -= len(numbers)

    def write(self) -> SegmentRecord:
        """Write the files of the tokens, where they change; returns the record that names them."""
        if not self._made and self.record.token_bytes == self._token_bytes:
            return self.record
        parts, sources = [self._kept()], np.arange(self.record.rows.num)
        num_before = len(sources)
        for numbers, tokens in self._made:
            sources[list(numbers)] = num_before + np.arange(len(numbers))
            num_before += len(numbers)
            parts.append(tokens)
        written = token_files.write(self._home, Tokens.concatenate(parts).take(sources))
        others = {name: file for name, file in self.record.files.items() if name not in self.record.token_names}
        return replace(self.record, files=others | written, token_bytes=self._token_bytes)

    def _kept(self) -> Tokens:
        """What the segment has, cut to size."""
        if not self.record.token_bytes:
            return Tokens(values=np.zeros((0, self._token_dim), np.int8), counts=self._counts)
        values = token_files.read_values(self._home, self.record, int(self._counts.sum()))
        counts = np.minimum(self._counts, self._token_bytes // self._token_dim)
        return Tokens(values=values[rows_of(np.cumsum(self._counts) - self._counts, counts)], counts=counts)
