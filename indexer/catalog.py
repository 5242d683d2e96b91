"""The catalog: one row an image, as an Arrow table."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from indexer import conditions, names, sql_conditions
from indexer.names import Names
from indexer.unicode_text import is_unicode
from retrieval.errors import UsageError
from retrieval.nearest_name import did_you_mean

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("uri", pa.string()),
        ("sha256", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("bytes", pa.int64()),
        ("dim", pa.int32()),
        ("bucket", pa.int32()),
        ("label", pa.string()),
    ]
)
"""The columns that every catalog begins with; those of the user come after."""

LISTED_IN = "listed_in"
"""A column after those, where any row has it: the table by which the file of a picture was found."""

PLACES = ("uri", LISTED_IN)
"""The columns that say where files lie on this machine."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """What the catalog holds of one image; `num_bytes` is the size of its file, `columns` are the user's own values.

    `listed_in` is the table that lists the file, None for one that was found otherwise.
    """

    id: str
    uri: str
    sha256: str
    width: int
    height: int
    num_bytes: int
    dim: int
    bucket: int
    label: str | None
    columns: dict[str, Any]
    listed_in: str | None = None


def table_of(rows: Sequence[Row]) -> pa.Table:
    """The rows as a table: `SCHEMA`, `LISTED_IN` where any has it, the user's columns in the order of their coming."""
    own = [
        pa.array([getattr(row, "num_bytes" if field.name == "bytes" else field.name) for row in rows], field.type)
        for field in SCHEMA
    ]
    names = dict.fromkeys(name for row in rows for name in row.columns)
    users = [_array([row.columns.get(name) for row in rows]) for name in names]
    listed_in = [row.listed_in for row in rows]
    if any(listed_in):
        own.append(pa.array(listed_in, pa.string()))
    return pa.table([*own, *users], names=[*SCHEMA.names, LISTED_IN][: len(own)] + [*map(user_column, names)])


def user_column(name: str) -> str:
    """The name under which a source's column is kept: its own, unless the catalog has a column of that name."""
    # SQL does not tell upper from lower case.
    taken = name.casefold() in {*SCHEMA.names, LISTED_IN, sql_conditions.ROW}
    return f"source_{name}" if taken else name


def join(tables: Iterable[pa.Table]) -> pa.Table:
    """All rows below each other; a column that is text in one table and numbers in another becomes text in all."""
    tables = [SCHEMA.empty_table(), *tables]
    types: dict[str, set[pa.DataType]] = {}
    for table in tables:
        for field in table.schema:
            types.setdefault(field.name, set()).add(field.type)
    clashing = {name for name, kinds in types.items() if not _agree(name, kinds)}
    return pa.concat_tables([_as_text(table, clashing) for table in tables], promote_options="permissive")


class Catalog:
    """All rows of an index by number, the deleted ones among them (`live` says which count)."""

    def __init__(self, table: pa.Table, live: np.ndarray):
        self.table = table
        self.live = live
        self._whole_columns: dict[str, pa.Array] = {}

    def row(self, number: int) -> dict[str, Any]:
        """The values of one row, by column name."""
        (row,) = self.rows(np.array([number]))
        return row

    def rows(self, numbers: np.ndarray) -> list[dict[str, Any]]:
        """The values of the rows `numbers` (K,), by column name, in that order."""
        return self.table.take(pa.array(numbers, pa.int64())).to_pylist()

    def take(self, numbers: np.ndarray) -> pa.Table:
        """The rows `numbers` (K,), in that order, with all columns."""
        return self.table.take(pa.array(numbers, pa.int64()))

    def _column(self, name: str) -> pa.ChunkedArray:
        return self.table[name]

    @property
    def column_names(self) -> list[str]:
        """What an image may be asked for, in order."""
        return self.table.column_names

    def column(self, name: str) -> pa.Array:
        """The values of one column in all rows, in one piece: it is read when it is first asked for, and kept.

        Raises `UsageError` where there is no such column.
        """
        names = self.column_names
        if name not in names:
            raise UsageError(f"expected a column, one of {', '.join(names)}, got {name!r}{did_you_mean(name, names)}")
        if name not in self._whole_columns:
            self._whole_columns[name] = self._column(name).combine_chunks()
        return self._whole_columns[name]

    def live_column(self, name: str) -> pa.ChunkedArray:
        """One column of the rows that count: read again each time, but for the ids, which stay in memory."""
        column = pa.chunked_array([self.column(name)]) if name == "id" else self._column(name)
        return column.filter(pa.array(self.live))

    def values(self, name: str, numbers: np.ndarray) -> pa.Array:
        """The values of one column in the rows `numbers` (K,), in that order."""
        return self.column(name).take(pa.array(numbers))

    def number_of(self, image_id: str) -> int | None:
        """The number of the live row of one image; all ids stay in memory, so that to ask again is quick."""
        if not is_unicode(image_id):
            return None
        (numbers,) = np.nonzero(pc.equal(self.column("id"), image_id).to_numpy(zero_copy_only=False) & self.live)
        return int(numbers[0]) if len(numbers) else None

    def find(self, ids: Iterable[str]) -> dict[str, int]:
        """The numbers of the live rows of some images, by id; ids that are none are left out."""
        column = self._column("id")
        is_wanted = pc.is_in(column, pa.array([*ids], pa.string())).to_numpy()
        (numbers,) = np.nonzero(is_wanted & self.live)
        return dict(zip(column.take(pa.array(numbers)).to_pylist(), numbers.tolist(), strict=True))

    def names(self) -> Names:
        """The pictures that several live rows speak of."""
        return names.find(self._column("id"), self._column("sha256"), self.live)

    def live_rows(self, names: Sequence[str] | None = None) -> pa.Table:
        """The rows that count, in order, with all columns or, read alone, these."""
        table = self.table if names is None else pa.table({name: self._column(name) for name in names})
        return table.filter(pa.array(self.live))

    def where(self, condition: str | Mapping[str, Any]) -> np.ndarray:
        """Numbers (N,) int64, rising, of the live rows that a filter lets through.

        It is one SQL expression over the columns and nothing else (no statement, no subquery, no file), or a mapping of
        columns to rules as `Index.search` takes it. Raises `UsageError`.
        """
        if isinstance(condition, str):
            numbers = sql_conditions.rows_where(condition, len(self.live), self.column_names, self.column)
            return numbers[self.live[numbers]]
        if not isinstance(condition, Mapping):
            raise UsageError(f"expected a condition in SQL, or a mapping of columns to rules, got {condition!r}")
        return np.flatnonzero(conditions.holds(condition, len(self.live), self.column) & self.live)


def _array(values: list[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        # Numbers here and text there: as text, nothing is lost.
        return pa.array([None if value is None else str(value) for value in values], pa.string())


def _agree(name: str, kinds: set[pa.DataType]) -> bool:
    try:
        pa.unify_schemas([pa.schema([(name, kind)]) for kind in kinds], promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return False
    return True


def _as_text(table: pa.Table, names: set[str]) -> pa.Table:
    fields = [field.with_type(pa.string()) if field.name in names else field for field in table.schema]
    return table.cast(pa.schema(fields))
