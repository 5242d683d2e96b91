"""Pictures of a table, .parquet or .csv: their bytes in a column, or their paths."""

import os
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from indexer.item import Item
from indexer.table_columns import IMAGE_COLUMNS, Columns, columns_of
from retrieval.errors import SourceError

_BATCH_ROWS = 32


def read_parquet(path: Path, label_from: str | None) -> Iterator[Item]:
    """A picture a row; raises `SourceError` or `UsageError` at once."""
    file = _open_parquet(path)
    return _parquet_items(path, file, columns_of(path, file.schema_arrow, label_from))


def read_csv(path: Path, label_from: str | None) -> Iterator[Item]:
    """A picture a row; raises `SourceError` or `UsageError` at once."""
    # One block, so that all of a column decides its type; ids, paths and labels are text whatever they look like.
    block_size = min(path.stat().st_size + 1, 2**31 - 1)
    texts = dict.fromkeys(("id", "label", label_from or "label", *IMAGE_COLUMNS), pa.string())
    try:
        table = csv.read_csv(
            path, csv.ReadOptions(block_size=block_size), convert_options=csv.ConvertOptions(column_types=texts)
        )
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"expected a .csv with a header, got {path}: {str(error).splitlines()[0]}") from None
    columns = columns_of(path, table.schema, label_from)
    batches = table.select(columns.names).to_batches(max_chunksize=1024)
    rows = chain.from_iterable(batch.to_pylist() for batch in batches)
    return (_item(path, columns, number, values) for number, values in enumerate(rows))


def num_rows(path: Path) -> int:
    """How many rows a .parquet has; raises `SourceError`."""
    with _open_parquet(path) as file:
        return file.metadata.num_rows


def read_parquet_row(path: Path, number: int) -> bytes:
    """The bytes of the picture in one row; raises `SourceError`, `UsageError` or `OSError` where there are none."""
    with _open_parquet(path) as file:
        column = columns_of(path, file.schema_arrow, None).image
        try:
            cell = _cell(file, column, number)
        except pa.ArrowException as error:
            raise SourceError(str(error).splitlines()[0]) from None
    data, _ = _data_and_path(cell)
    if data is None:
        raise SourceError("the row holds no picture")
    return data


def _open_parquet(path: Path) -> pq.ParquetFile:
    try:
        # Column chunks are read piece by piece: a row group may be larger than the memory.
        return pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"expected a parquet file, got {path}: {str(error).splitlines()[0]}") from None


def _parquet_items(path: Path, file: pq.ParquetFile, columns: Columns) -> Iterator[Item]:
    with file:
        for group, number in _row_groups(file):
            last = number + file.metadata.row_group(group).num_rows - 1
            try:
                for batch in _small_batches(file, group, columns.names):
                    for values in batch.to_pylist():
                        yield _item(path, columns, number, values)
                        number += 1
            except (OSError, pa.ArrowException) as error:
                problem = f"expected rows up to {last}, but cannot read them: {str(error).splitlines()[0]}"
                yield Item(
                    id=f"{path.name}#{number}",
                    uri=f"{path}#{number}",
                    source=path.stem,
                    problem=problem,
                    breaks_off=True,
                )


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


def _item(path: Path, columns: Columns, number: int, values: dict[str, Any]) -> Item:
    data, place = _data_and_path(values[columns.image])
    file = Path(os.path.abspath(path.parent / place)) if data is None and place else None
    label = values[columns.label] if columns.label else None
    if columns.label_from_parent and place:
        label = Path(place).parent.name
    item_id = values[columns.id] if columns.id else None
    return Item(
        id=str(number if item_id in (None, "") else item_id),
        uri=str(file) if file else f"{path}#{number}",
        source=path.stem,
        data=data,
        path=file,
        label=None if label is None else str(label),
        columns={name: values[name] for name in columns.users},
        listed_in=str(path) if file else None,
        problem=None if data is not None or file else f"expected a picture in column {columns.image!r}, got none",
    )


def _data_and_path(image: Any) -> tuple[bytes | None, str | None]:
    """What a cell holds: bytes, a path, or both of them as Hugging Face's image type."""
    data, place = (image.get("bytes"), image.get("path")) if isinstance(image, dict) else (image, image)
    return data if isinstance(data, bytes) else None, place if isinstance(place, str) else None
