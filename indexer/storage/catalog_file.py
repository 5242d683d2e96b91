"""One Parquet file with rows of the index: read as a whole, by columns, or a few rows of it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

import pyarrow as pa
import pyarrow.parquet as pq

from indexer import catalog
from indexer.storage.arrays import MAPPED
from retrieval.errors import DamagedError


class CatalogFile:
    """The catalog of a segment, opened once: small ones in memory, large ones mapped, so readable after it is swept.

    May be read by several threads. Raises `DamagedError` where it cannot be read or has other than `num_rows` rows.
    """

    def __init__(self, path: Path, num_rows: int) -> None:
        self._path = path
        self._file = _open(path)
        self._lock = Lock()
        if self._file.metadata.num_rows != num_rows:
            raise DamagedError(f"expected {num_rows} rows in {path}, got {self._file.metadata.num_rows}")
        self.num_rows = num_rows
        self.schema = self._file.schema_arrow
        _refuse_missing(path, self.schema.names, catalog.SCHEMA.names)

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows, with all columns or these; raises `DamagedError`."""
        with self._lock, _damage_named(self._path):
            return _sound(self._file.read(columns, use_threads=self._file.num_row_groups > 1))

    def place_of(self, row: int) -> tuple[int, int]:
        """In which group of rows one is, and its number there."""
        group = 0
        while row >= (num_rows := self._file.metadata.row_group(group).num_rows):
            row -= num_rows
            group += 1
        return group, row

    def groups(self) -> Iterator[pa.Table]:
        """All rows in order, those that are decoded together at a time; raises `DamagedError`."""
        for number in range(self._file.num_row_groups):
            yield self.group(number)

    def group(self, number: int) -> pa.Table:
        """The rows that are decoded together with one of them; raises `DamagedError`."""
        with self._lock, _damage_named(self._path):
            return _sound(self._file.read_row_group(number, use_threads=False))


def read_table(path: Path, columns: Sequence[str]) -> pa.Table:
    """Columns of a Parquet file that is not looked at again; raises `DamagedError`."""
    file = _open(path)
    _refuse_missing(path, file.schema_arrow.names, columns)
    with _damage_named(path):
        return _sound(file.read(columns))


def _sound(table: pa.Table) -> pa.Table:
    """The table, whose text is text: Arrow itself believes what it reads, until somebody looks at it."""
    table.validate(full=True)
    return table


def _open(path: Path) -> pq.ParquetFile:
    with _damage_named(path):
        with open(path, "rb", buffering=0) as file:
            data = file.read(MAPPED)
        if len(data) == MAPPED:
            # Arrow's mapping lives on when the file is closed: no file is held open.
            with pa.memory_map(str(path)) as mapped:
                data = mapped.read_buffer()
        return pq.ParquetFile(pa.BufferReader(data), pre_buffer=False)


def _refuse_missing(path: Path, names: Sequence[str], wanted: Sequence[str]) -> None:
    if missing := {*wanted} - {*names}:
        raise DamagedError(f"expected a column {min(missing)!r} in {path}, got {names}; `verify` lists what is damaged")


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise DamagedError(f"expected a table in {path}, got: {reason}; `verify` lists what is damaged") from None
