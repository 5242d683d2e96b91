"""Exporting an index: every live row, with its vector and tokens, into one Parquet file; a block at a time."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from indexer import catalog, segments
from indexer.changes.exported import Head, free_name
from indexer.changes.row_blocks import RowBlock, live_blocks
from indexer.segments import Segment
from indexer.storage import durable, token_files
from indexer.storage.manifest import Manifest
from retrieval.errors import DamagedError, SpyglassError, UsageError


def export(folder: Path, state: Manifest, out: Path, *, tokens: bool) -> int:
    """Write the rows of a state to the file `out`, whole or not at all; returns how many. See `Index.export`."""
    if out.suffix.lower() != ".parquet":
        raise UsageError(f"expected the name of a file to export to to end in .parquet, got {out}")
    for problem in segments.verify(folder, state):
        raise DamagedError(f"expected a sound index at {folder} to export, got {problem}; `verify` lists all damage")
    parts = segments.read(folder, state)
    schema = catalog.join(part.schema().empty_table() for part in parts).schema
    token_dim = _token_dim(parts) if tokens else 0
    head = Head(
        model=state.model,
        widths=state.widths,
        dtype=state.dtype,
        index_type=state.index_type,
        token_bytes=max([state.token_bytes, *(part.record.token_bytes for part in parts)]),
        token_dim=token_dim,
        vector_column=free_name("vector", schema),
        token_column=free_name("tokens", schema) if token_dim else "",
    )
    new = out.with_name(f".{out.name}.new")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        try:
            with new.open("wb") as file:
                _write(file, head, schema, parts)
                durable.sync_file(file)
            os.replace(new, out)
        finally:
            new.unlink(missing_ok=True)
        durable.sync_folder(out.parent)
    except OSError as error:
        raise SpyglassError(f"expected to write to {out}, but cannot: {error.strerror or error}") from None
    return state.num_images


def _write(file, head: Head, schema: pa.Schema, parts: list[Segment]) -> None:
    written_as = head.schema(schema)
    with pq.ParquetWriter(file, written_as, compression="zstd", write_page_checksum=True) as writer:
        for part in parts:
            for block in live_blocks(part):
                if block.table.num_rows:
                    rows = catalog.join([schema.empty_table(), block.table]).cast(schema)
                    columns = [*rows.columns, _lists(block)]
                    if head.token_column:
                        columns.append(_bytes(block, head.token_dim))
                    writer.write_table(pa.table(columns, schema=written_as))


def _lists(block: RowBlock) -> pa.Array:
    """The vectors in the order of the rows, each as long as its bucket is wide."""
    widths = block.table["bucket"].to_numpy()
    offsets = np.concatenate([[0], np.cumsum(widths, dtype=np.int64)])
    numbers = np.empty(offsets[-1], np.float32)
    for width, vectors in block.vectors.items():
        numbers[offsets[:-1][widths == width, None] + np.arange(width)] = vectors
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(numbers))


def _bytes(block: RowBlock, token_dim: int) -> pa.Array:
    """The tokens of each row, one after the other."""
    offsets = np.concatenate([[0], np.cumsum(block.token_counts, dtype=np.int64) * token_dim]).astype(np.int32)
    values = np.zeros((0, token_dim), np.int8) if block.token_values is None else block.token_values
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(values))]
    return pa.Array.from_buffers(pa.binary(), len(offsets) - 1, buffers)


def _token_dim(parts: list[Segment]) -> int:
    """How many numbers a token has; 0 where no segment has tokens."""
    for part in parts:
        if part.record.token_bytes:
            num_tokens = int(token_files.read_counts(part.home, part.record).sum(dtype=np.int64))
            return token_files.read_values(part.home, part.record, num_tokens).shape[1]
    return 0
