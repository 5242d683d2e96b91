"""A list of queries in a file: paths or ids, one a line or a row."""

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from retrieval.errors import SourceError

_COLUMNS = ("query", "path", "id")


def read(file: str) -> list[str]:
    """The queries of a .csv, .jsonl or .parquet with a column query, path or id, or else of a text, one a line.

    `file` "-" is stdin, as a text. Lines that are blank are passed over. Raises `SourceError`.
    """
    path = Path(file)
    readers = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
    try:
        if file == "-":
            return _lines(sys.stdin)
        return list(readers.get(path.suffix.lower(), _read_text)(path))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SourceError(f"expected a list of queries in {file}, but cannot read it: {reason}") from None


def _read_text(path: Path) -> list[str]:
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:  # as the names of files are
        return _lines(file)


def _lines(file) -> list[str]:
    return [line.rstrip("\r\n") for line in file if line.strip()]


def _read_csv(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file)
        column = _column(path, rows.fieldnames or [])
        yield from (row[column] for row in rows if row[column])


def _read_jsonl(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            query = row[_column(path, [*row])] if isinstance(row, dict) else row
            if not isinstance(query, str):
                raise SourceError(
                    f"expected a text, or an object with one, in line {number} of {path}, got {line[:80]!r}"
                )
            yield query


def _read_parquet(path: Path) -> Iterator[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            column = _column(path, file.schema_arrow.names)
            values = file.read([column])[column].cast(pa.string())
    except pa.ArrowException as error:
        raise SourceError(f"expected a list of queries in {path}, got: {str(error).splitlines()[0]}") from None
    yield from (value for value in values.to_pylist() if value)


def _column(path: Path, names: list[str]) -> str:
    for name in _COLUMNS:
        if name in names:
            return name
    raise SourceError(f"expected a column {', '.join(_COLUMNS[:-1])} or {_COLUMNS[-1]} in {path}, got {names}")
