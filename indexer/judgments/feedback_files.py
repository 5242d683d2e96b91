"""Judgments in files of other programs' kinds: .csv, .jsonl and .parquet, read and written a row at a time."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from indexer.feedback import picture_column
from indexer.storage import durable
from retrieval.errors import SourceError, UsageError

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = (".csv", ".jsonl", ".parquet")
"""Endings, lower case, of the files that are read and written."""

_NEEDED = ("query", "image", "relevant")
_COLUMNS = (*_NEEDED, "when", "user")
_PICTURE = "query_image"


def check_path(path: Path) -> None:
    """Raise `UsageError` for a file whose name ends in none of `SUFFIXES`."""
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"expected a file's name to end in .csv, .jsonl or .parquet, got {path}; rename it")


def read(path: Path) -> Iterator[Any]:
    """The rows as mappings of `query`, `image`, `relevant`, perhaps `when`, `user` and (.parquet alone) `query_image`.

    A line of .jsonl that is no JSON comes as its text, to be refused with its number. Raises `UsageError` for another
    ending, `SourceError` for a file that cannot be read or lacks a column.
    """
    check_path(path)
    try:
        yield from {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}[path.suffix.lower()](path)
    except (OSError, UnicodeDecodeError, csv.Error, pa.ArrowException) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise SourceError(f"expected a table of judgments in {path}, got: {reason}") from None


def write(path: Path, judgments: "pd.DataFrame") -> None:
    """Write the rows of `feedback.read` under a name that `check_path` accepts; the pictures to .parquet alone.

    What was there is replaced once all is written. Raises `SourceError`.
    """
    writers = {".csv": _to_csv, ".jsonl": _to_jsonl, ".parquet": _to_parquet}
    data = writers[path.suffix.lower()](judgments)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        durable.replace(path, data)
    except OSError as error:
        raise SourceError(f"expected to write {path}, but cannot: {error.strerror}") from None


def _read_csv(path: Path) -> Iterator[Any]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file)
        _refuse_missing(path, rows.fieldnames or [])
        for row in rows:
            # DictReader gathers cells beyond the header under None.
            yield row if None not in row else list(row.values())


def _read_jsonl(path: Path) -> Iterator[Any]:
    with path.open(encoding="utf-8-sig") as file:
        for line in file:
            try:
                yield json.loads(line)
            except (ValueError, RecursionError):
                yield line.strip()


def _read_parquet(path: Path) -> Iterator[Any]:
    with pq.ParquetFile(path) as file:
        names = file.schema_arrow.names
        _refuse_missing(path, names)
        pictures: dict[bytes, bytes] = {}
        kept = [name for name in (*_COLUMNS, _PICTURE) if name in names]
        for batch in file.iter_batches(1024, columns=kept):
            for row in batch.to_pylist():
                if isinstance(row.get(_PICTURE), bytes):
                    # The picture of a query that is judged a thousand times must not be held a thousand times.
                    row[_PICTURE] = pictures.setdefault(row[_PICTURE], row[_PICTURE])
                yield row


def _refuse_missing(path: Path, names: list[str]) -> None:
    if missing := [name for name in _NEEDED if name not in names]:
        raise SourceError(f"expected columns query, image and relevant in {path}, got {names}; add {missing[0]!r}")


def _to_csv(judgments: "pd.DataFrame") -> bytes:
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(_COLUMNS)
    for row in judgments[[*_COLUMNS]].to_dict("records"):
        writer.writerow((row | {"relevant": "true" if row["relevant"] else "false"}).values())
    return file.getvalue().encode("utf-8")


def _to_jsonl(judgments: "pd.DataFrame") -> bytes:
    rows = judgments[[*_COLUMNS]].to_dict("records")
    return "".join(json.dumps(row) + "\n" for row in rows).encode("ascii")


def _to_parquet(judgments: "pd.DataFrame") -> bytes:
    table = pa.Table.from_pandas(judgments[[*_COLUMNS]], preserve_index=False)
    table = table.append_column(_PICTURE, picture_column(judgments[_PICTURE]))
    file = io.BytesIO()
    # Without Arrow's own schema other programs see plain bytes.
    pq.write_table(table, file, compression="zstd", store_schema=False)
    return file.getvalue()
