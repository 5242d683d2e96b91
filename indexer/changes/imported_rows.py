"""Rows of an exported file, checked number by number before they become rows of an index."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from indexer import catalog
from indexer.buckets import width_of
from indexer.changes.exported import Head
from indexer.changes.row_blocks import RowBlock
from retrieval.errors import SourceError, UsageError

_LENGTH_OFF = 0.01
"""How far from 1 a vector's length may be: half of float16's numbers are off by more than 0.0002."""


def block_of(table: pa.Table, head: Head, widths: tuple[int, ...]) -> RowBlock:
    """The rows of an index whose buckets have these `widths`; raises `SourceError` where one is unsound."""
    for name in catalog.SCHEMA.names:
        if name != "label" and table[name].null_count:
            raise SourceError(f"a row without {name}")
    dims = table["dim"].to_numpy().astype(np.int64)
    try:
        buckets = width_of(dims, widths)
    except UsageError as error:
        raise SourceError(str(error)) from None
    vectors = _vectors(_flat(table[head.vector_column]), dims, buckets)
    counts, values = np.zeros(len(table), np.uint8), None
    if head.token_column:
        counts, values = _tokens(_flat(table[head.token_column]), head)
    rows = table.drop_columns([name for name in (head.vector_column, head.token_column) if name])
    place = rows.schema.get_field_index("bucket")
    rows = rows.set_column(place, "bucket", pa.array(buckets, pa.int32())).replace_schema_metadata()
    return RowBlock(rows, vectors, counts, values)


def _flat(column: pa.ChunkedArray) -> tuple[np.ndarray, pa.Array]:
    """Where each cell begins in the numbers of all, and where the last ends, (N + 1,); and the cells."""
    cells = column.combine_chunks()
    if cells.null_count:
        raise SourceError("a row without its vector or tokens")
    lengths = (pc.list_value_length if pa.types.is_list(cells.type) else pc.binary_length)(cells)
    return np.concatenate([[0], np.cumsum(lengths.to_numpy(zero_copy_only=False), dtype=np.int64)]), cells


def _vectors(flat: tuple[np.ndarray, pa.Array], dims: np.ndarray, buckets: np.ndarray) -> dict[int, np.ndarray]:
    starts, cells = flat
    lengths, numbers = np.diff(starts), cells.flatten()
    if numbers.null_count:
        raise SourceError("a vector with numbers missing")
    numbers = numbers.to_numpy()
    if (lengths < dims).any():
        row = int(np.argmax(lengths < dims))
        raise SourceError(f"a vector of {lengths[row]} numbers for a dim of {dims[row]}")
    if not np.isfinite(numbers).all():
        raise SourceError("a vector with NaN or infinity")
    place_in_row = np.arange(len(numbers)) - np.repeat(starts[:-1], lengths)
    if numbers[place_in_row >= np.repeat(dims, lengths)].any():
        raise SourceError("a vector with numbers beyond its dim")
    norms = np.sqrt(np.add.reduceat(numbers.astype(np.float64) ** 2, starts[:-1])) if len(dims) else np.ones(0)
    if (np.abs(norms - 1) > _LENGTH_OFF).any():
        raise SourceError(f"a vector of length {norms[np.argmax(np.abs(norms - 1))]:.3f}, which should be 1")
    found = {}
    for width in np.unique(buckets).tolist():
        (rows,) = np.nonzero(buckets == width)
        columns = np.arange(width)
        # Its bucket may be wider here than it was there: what is lacking is zero.
        is_there = columns < lengths[rows, None]
        places = (starts[:-1][rows, None] + columns).clip(max=len(numbers) - 1)
        found[width] = np.where(is_there, numbers[places], np.float32(0))
    return found


def _tokens(flat: tuple[np.ndarray, pa.Array], head: Head) -> tuple[np.ndarray, np.ndarray]:
    starts, cells = flat
    lengths = np.diff(starts)
    most = min(255 * head.token_dim, head.token_bytes)
    if (lengths % head.token_dim).any() or lengths.max(initial=0) > most:
        raise SourceError(f"tokens that are not up to {most} bytes, {head.token_dim} each")
    joined = b"".join(cells.to_pylist())
    return (lengths // head.token_dim).astype(np.uint8), np.frombuffer(joined, np.int8).reshape(-1, head.token_dim)
