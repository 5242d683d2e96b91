"""The live rows of an index, read a block at a time: so that a million of them can be written anew in little memory."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from indexer.segments import Segment
from indexer.storage import token_files

BLOCK = 16_384
"""How many rows are looked at together: 32 MB of vectors at most."""


class RowBlock(NamedTuple):
    """N rows in order: their catalog, their vectors, and their tokens.

    `vectors` holds an array (rows of that bucket, width) for each width, in the rows' order; `token_values` (M, D) int8
    are the tokens of all, `token_counts` (N,) how many each has: None and all zero where their segment has none.
    """

    table: pa.Table
    vectors: dict[int, np.ndarray]
    token_counts: np.ndarray
    token_values: np.ndarray | None


def live_blocks(segment: Segment) -> Iterator[RowBlock]:
    """The live rows of a segment, in blocks that may be of different sizes; raises `DamagedError`."""
    live, first_row = segment.live(), 0
    vectors = {width: segment.vectors(width) for width in segment.record.rows.buckets}
    counts = token_files.read_counts(segment.home, segment.record)
    num_tokens = int(counts.sum(dtype=np.int64))
    values = token_files.read_values(segment.home, segment.record, num_tokens) if segment.record.token_bytes else None
    first_of_width, first_token = dict.fromkeys(vectors, 0), 0
    for table in _slices(segment):
        some = slice(first_row, first_row := first_row + len(table))
        kept, kept_vectors, bucket_of_row = live[some], {}, table["bucket"].to_numpy()
        for width, rows in vectors.items():
            is_of_width = bucket_of_row == width
            begin = first_of_width[width]
            end = first_of_width[width] = begin + int(is_of_width.sum())
            kept_vectors[width] = rows[begin:end][kept[is_of_width]]
        end_token = first_token + int(counts[some].sum(dtype=np.int64))
        owned = None if values is None else values[first_token:end_token][np.repeat(kept, counts[some])]
        first_token = end_token
        yield RowBlock(table.filter(pa.array(kept)), kept_vectors, counts[some][kept], owned)


def _slices(segment: Segment) -> Iterator[pa.Table]:
    for group in segment.catalog.groups():
        for start in range(0, len(group), BLOCK):
            yield group.slice(start, BLOCK)
