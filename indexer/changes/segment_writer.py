"""Writing a segment a block of rows at a time, however many it is to hold."""

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from indexer import catalog
from indexer.changes.row_blocks import RowBlock
from indexer.segments import CATALOG, ROW_GROUP, SEGMENTS, compression_for, vectors_name
from indexer.storage import arrays, durable
from indexer.storage.arrays import ArrayWriter
from indexer.storage.records import FileRecord, Rows, SegmentRecord
from indexer.storage.token_files import COUNTS, VALUES
from retrieval.errors import DamagedError


class SegmentWriter:
    """A new segment in the index `folder`, to be used in a `with`: what is not finished at its end is removed again.

    `schema` is that of the catalog, the user's columns included, which all blocks are cast to; `dtype` as in the
    manifest; `token_bytes` the most that the tokens of a row take, 0 for rows without.
    """

    def __init__(self, folder: Path, segment_id: str, schema: pa.Schema, *, dtype: str, token_bytes: int = 0):
        self._folder = folder
        self._home = folder / SEGMENTS / segment_id
        self._schema = schema
        self._dtype = np.dtype(dtype)
        self._token_bytes = token_bytes
        self._catalog: pq.ParquetWriter | None = None
        self._waiting = schema.empty_table()  # rows of the catalog that do not fill a group yet
        self._buckets: Counter[int] = Counter()
        self._sum_dims = 0
        self._vectors: dict[int, ArrayWriter] = {}
        self._tokens: ArrayWriter | None = None
        self._token_counts: list[np.ndarray] = []
        self._is_finished = False

    def __enter__(self) -> "SegmentWriter":
        self._home.mkdir(parents=True)
        self._file = (self._home / CATALOG).open("xb")
        return self

    def __exit__(self, *_) -> None:
        if not self._is_finished:
            if self._catalog is not None:
                self._catalog.is_open = False  # or it would write its end into a file that is closed
            for writer in (self._file, *self._vectors.values(), *([self._tokens] if self._tokens else [])):
                writer.close()
            # Nothing names it yet; what cannot be removed now is swept by the next `compact`.
            shutil.rmtree(self._home, ignore_errors=True)

    def add(self, block: RowBlock) -> None:
        """Write further rows below those that are there."""
        if not block.table.num_rows:
            return
        # Joined with an empty table of the schema, a column that is lacking becomes one of nulls.
        table = catalog.join([self._schema.empty_table(), block.table]).cast(self._schema)
        self._waiting = pa.concat_tables([self._waiting, table])
        if len(self._waiting) >= ROW_GROUP:
            self._write_catalog(len(self._waiting) // ROW_GROUP * ROW_GROUP)
        self._sum_dims += int(block.table["dim"].to_numpy().sum(dtype=np.int64))
        for width, rows in block.vectors.items():
            if len(rows):
                self._buckets[width] += len(rows)
                if width not in self._vectors:
                    self._vectors[width] = ArrayWriter(self._home / vectors_name(width), width, self._dtype)
                self._vectors[width].append(rows)
        self._token_counts.append(block.token_counts.astype(np.uint8))
        if block.token_values is not None:
            self._add_tokens(block.token_values)

    def _write_catalog(self, num_rows: int) -> None:
        """Write so many of the waiting rows, in groups that are worth decoding."""
        if self._catalog is None:
            self._catalog = pq.ParquetWriter(self._file, self._schema, compression=compression_for(num_rows))
        self._catalog.write_table(self._waiting.slice(0, num_rows), row_group_size=ROW_GROUP)
        self._waiting = self._waiting.slice(num_rows)

    def _add_tokens(self, values: np.ndarray) -> None:
        if self._tokens is None:
            self._tokens = ArrayWriter(self._home / VALUES, values.shape[1], np.dtype(np.int8))
        if values.shape[1] != self._tokens.width:
            raise DamagedError(f"expected tokens of {self._tokens.width} numbers each, got some of {values.shape[1]}")
        self._tokens.append(values)

    def finish(self) -> SegmentRecord:
        """Sync everything; returns the record that a manifest is to name it by."""
        if self._waiting.num_rows or self._catalog is None:
            self._write_catalog(len(self._waiting))
        self._catalog.close()
        durable.sync_file(self._file)
        self._file.close()
        for writer in self._vectors.values():
            writer.finish()
        if self._tokens is not None:
            self._tokens.finish()
            arrays.write_new(self._home / COUNTS, np.concatenate(self._token_counts))
        for path in (self._home, self._home.parent, self._folder):
            durable.sync_folder(path)
        record = SegmentRecord(
            id=self._home.name,
            rows=Rows(buckets=dict(sorted(self._buckets.items())), sum_dims=self._sum_dims),
            files={path.name: FileRecord.of(path) for path in sorted(self._home.iterdir())},
            token_bytes=0 if self._tokens is None else self._token_bytes,
        )
        self._is_finished = True
        return record
