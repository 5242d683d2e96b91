"""The catalog of an index as it lies in the files of its segments: what is asked for is read when it is."""

from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from indexer import catalog
from indexer.catalog import Catalog
from indexer.segments import Segment

_MOST_GROUPS = 64  # decoded groups of rows that are kept: those of the latest hits


class StoredCatalog(Catalog):
    """A catalog that takes next to no memory until it is asked for all rows, and reads single ones, and columns, alone.

    The files stay readable, whatever becomes of the index. What is read raises `DamagedError`.
    """

    def __init__(self, segments: Sequence[Segment]):
        self.live = np.concatenate([np.empty(0, dtype=bool), *(segment.live() for segment in segments)])
        self.segments = segments
        self._files = [segment.catalog for segment in segments]
        self._firsts = np.cumsum([0, *(segment.record.rows.num for segment in segments)])
        self._whole_columns: dict[str, pa.Array] = {}
        self._group = lru_cache(_MOST_GROUPS)(self._read_group)

    @cached_property
    def table(self) -> pa.Table:
        return catalog.join(file.table() for file in self._files)

    @cached_property
    def _no_rows(self) -> pa.Table:
        """All columns of all segments, and what their types are where they are joined."""
        schemas = dict.fromkeys(file.schema.remove_metadata() for file in self._files)
        return catalog.join(schema.empty_table() for schema in schemas)

    @property
    def column_names(self) -> list[str]:
        return self._no_rows.column_names

    def rows(self, numbers: np.ndarray) -> list[dict[str, Any]]:
        owners = np.searchsorted(self._firsts, numbers, side="right") - 1
        wanted = defaultdict(list)  # of each group of rows: where they are to go, and where they are in it
        for place, (number, owner) in enumerate(zip(numbers.tolist(), owners.tolist(), strict=True)):
            group, row = self._files[owner].place_of(number - int(self._firsts[owner]))
            wanted[owner, group].append((place, row))
        found: dict[int, dict[str, Any]] = {}
        for group, pairs in wanted.items():
            places, rows = zip(*pairs, strict=True)
            table = self._group(*group).take(pa.array(rows))
            if table.schema != self._no_rows.schema:
                table = catalog.join([self._no_rows, table])
            found |= zip(places, table.to_pylist(), strict=True)
        return [found[place] for place in range(len(numbers))]

    def take(self, numbers: np.ndarray) -> pa.Table:
        return pa.Table.from_pylist(self.rows(numbers), schema=self._no_rows.schema)

    def _column(self, name: str) -> pa.ChunkedArray:
        kind = self._no_rows.schema.field(name).type
        columns = [
            file.table([name])[name].cast(kind) if name in file.schema.names else pa.nulls(rows, kind)
            for file, rows in zip(self._files, np.diff(self._firsts).tolist(), strict=True)
        ]
        chunks = [chunk for column in columns for chunk in getattr(column, "chunks", [column])]
        return pa.chunked_array(chunks, kind)

    def _read_group(self, owner: int, number: int) -> pa.Table:
        return self._files[owner].group(number)
