"""Pictures of a table, .parquet or .csv: their bytes in a column, or their paths or URLs."""

import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import csv

from indexer.sources.image_files import refuse_too_large
from indexer.sources.item import Item
from indexer.sources.origin import Origin
from indexer.sources.table_columns import IMAGE_COLUMNS, Columns, columns_of
from retrieval.errors import ImageError, SourceError

_BATCH_ROWS = 32
_SMALL_BYTES = 64 * 1024 * 1024
_MOST_HEADER = 1024 * 1024
_BROKEN = (OSError, pa.ArrowException, ValueError, OverflowError)
"""What Arrow raises for files that are not as they should be; `ValueError` for text that is no UTF-8."""


def read_parquet(origin: Origin, label_from: str | None) -> Iterator[Item]:
    """A picture a row; raises `SourceError` or `UsageError` at once."""
    file = _open_parquet(origin.path, origin.uri)
    return _parquet_items(origin, file, _columns(origin, file.schema_arrow, label_from))


def read_csv(origin: Origin, label_from: str | None) -> Iterator[Item]:
    """A picture a row; raises `SourceError` or `UsageError` at once."""
    # One block, so that all of a column decides its type; ids, paths and labels are text whatever they look like.
    block_size = min(origin.path.stat().st_size + 1, 2**31 - 1)
    texts = dict.fromkeys(("id", "label", label_from or "label", *IMAGE_COLUMNS), pa.string())
    try:
        table = csv.read_csv(
            origin.path,
            csv.ReadOptions(block_size=block_size),
            csv.ParseOptions(delimiter=_delimiter(origin.path)),
            csv.ConvertOptions(column_types=texts),
        )
    except _BROKEN as error:
        raise SourceError(f"expected a .csv with a header, got {origin.uri}: {_in_a_line(error)}") from None
    columns = _columns(origin, table.schema, label_from)
    return _csv_items(origin, table.select(columns.names), columns)


def _delimiter(path: Path) -> str:
    """What parts the names of the header: a comma, or where there is none a semicolon or a tab."""
    with path.open("rb") as file:
        header = file.readline(_MOST_HEADER)
    return next((sign for sign in (",", ";", "\t") if sign.encode() in header), ",")


def num_rows(path: Path) -> int:
    """How many rows a .parquet has; raises `SourceError`."""
    with _open_parquet(path, str(path)) as file:
        return file.metadata.num_rows


def read_parquet_row(source: Path | BinaryIO, number: int) -> bytes:
    """The bytes of the picture in one row; raises `SourceError`, `UsageError` or `OSError` where there are none."""
    with _open_parquet(source, "one") as file:
        column = columns_of("it", file.schema_arrow, None).image
        try:
            cell = _cell(file, column, number)
        except (pa.ArrowException, ValueError) as error:
            raise SourceError(_in_a_line(error)) from None
    data, _ = _data_and_path(cell)
    if data is None:
        raise SourceError("the row holds no picture")
    return data


def _open_parquet(source: Path | BinaryIO, uri: str) -> pq.ParquetFile:
    try:
        # Column chunks of a large file are read piece by piece: a row group may be larger than the memory. Those of a
        # small one are not: where they are damaged, that may take thousands of pieces.
        buffer_size = 1 << 20 if _num_bytes(source) > _SMALL_BYTES else 0
        return pq.ParquetFile(source, pre_buffer=False, buffer_size=buffer_size, page_checksum_verification=True)
    except _BROKEN as error:
        raise SourceError(f"expected a parquet file, got {uri}: {_in_a_line(error)}") from None


def _num_bytes(source: Path | BinaryIO) -> int:
    return source.stat().st_size if isinstance(source, Path) else source.seek(0, os.SEEK_END)


def _columns(origin: Origin, schema: pa.Schema, label_from: str | None) -> Columns:
    try:
        return columns_of(origin.uri, schema, label_from)
    except UnicodeDecodeError as error:
        raise SourceError(f"expected names of columns in UTF-8, got {origin.uri}: {error}") from None


def _csv_items(origin: Origin, table: pa.Table, columns: Columns) -> Iterator[Item]:
    # What is empty says nothing, in a column of text as in one of numbers.
    for place, field in enumerate(table.schema):
        if pa.types.is_string(field.type):
            table = table.set_column(place, field, pc.if_else(pc.equal(table[place], ""), None, table[place]))
    numbers = count()
    for batch in table.to_batches(max_chunksize=1024):
        yield from _items(origin, columns, batch, numbers)


def _parquet_items(origin: Origin, file: pq.ParquetFile, columns: Columns) -> Iterator[Item]:
    with file:
        for group, first in _row_groups(file):
            last = first + file.metadata.row_group(group).num_rows - 1
            numbers = count(first)
            problem = None
            try:
                for batch in _small_batches(file, group, columns.names):
                    yield from _items(origin, columns, batch, numbers)
            except _BROKEN as error:
                problem = _in_a_line(error)
            missing = next(numbers)
            # Arrow takes some damaged columns for short ones.
            if problem is not None or missing <= last:
                problem = f"expected rows up to {last}, but cannot read them: {problem or 'there are fewer'}"
                yield Item(
                    id=f"{origin.name}#{missing}",
                    uri=origin.uri,  # all that is missing is read again by reading the table again
                    source=origin.source,
                    problem=problem,
                    breaks_off=True,
                )


def _items(origin: Origin, columns: Columns, batch: pa.RecordBatch, numbers: Iterator[int]) -> Iterator[Item]:
    try:
        rows = batch.to_pylist()
    except _BROKEN:
        rows = [_row(batch, place) for place in range(batch.num_rows)]
    for values, number in zip(rows, numbers, strict=False):
        yield _item(origin, columns, number, values)


def _row(batch: pa.RecordBatch, place: int) -> dict[str, Any] | str:
    """The values of a row, or what is wrong with them."""
    try:
        return batch.slice(place, 1).to_pylist()[0]
    except _BROKEN as error:
        return f"expected a row that can be read, got: {_in_a_line(error)}"


def _row_groups(file: pq.ParquetFile) -> Iterator[tuple[int, int]]:
    """Each row group's number, and that of its first row."""
    first = 0
    for group in range(file.num_row_groups):
        yield group, first
        first += file.metadata.row_group(group).num_rows


def _cell(file: pq.ParquetFile, column: str, number: int) -> Any:
    for group, first in _row_groups(file):
        if number < first + file.metadata.row_group(group).num_rows:
            for batch in _small_batches(file, group, [column]):
                if number < first + batch.num_rows:
                    return batch.column(0)[number - first].as_py()
                first += batch.num_rows
    raise SourceError(f"it has {file.metadata.num_rows} rows")


def _small_batches(file: pq.ParquetFile, group: int, names: list[str]) -> Iterator[pa.RecordBatch]:
    return file.iter_batches(_BATCH_ROWS, row_groups=[group], columns=names, use_threads=False)


def _item(origin: Origin, columns: Columns, number: int, values: dict[str, Any] | str) -> Item:
    uri = f"{origin.uri}#{number}"
    if isinstance(values, str):
        return Item(id=str(number), uri=uri, source=origin.source, problem=values)
    data, place = _data_and_path(values[columns.image])
    path, problem = None, None
    try:
        if data is not None:
            refuse_too_large(len(data))
        elif place:
            uri, path = origin.picture(place)
        else:
            problem = f"expected a picture in column {columns.image!r}, got none"
    except (ImageError, ValueError) as error:
        data, problem = None, str(error)
    label = values[columns.label] if columns.label else None
    if columns.label_from_parent and place:
        label = Path(place).parent.name
    item_id = values[columns.id] if columns.id else None
    return Item(
        id=str(number if item_id in (None, "") else item_id),
        uri=uri,
        source=origin.source,
        data=data,
        path=path,
        label=None if label is None else str(label),
        columns={name: values[name] for name in columns.users},
        listed_in=origin.uri if data is None and place else None,
        problem=problem,
    )


def _data_and_path(image: Any) -> tuple[bytes | None, str | None]:
    """What a cell holds: bytes, a path, or both of them as Hugging Face's image type."""
    data, place = (image.get("bytes"), image.get("path")) if isinstance(image, dict) else (image, image)
    return data if isinstance(data, bytes) else None, place if isinstance(place, str) else None


def _in_a_line(error: Exception) -> str:
    return " ".join(str(error).split("\n", 1)[0].split()) or type(error).__name__
