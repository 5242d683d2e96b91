"""Labelled pictures to train and to measure on: parquet files with an image and a label column, folders of folders."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from retrieval.errors import ImageError, SourceError, UsageError
from retrieval.images import IMAGE_SUFFIXES, decode


@dataclass(frozen=True, kw_only=True)
class LabelledImages:
    """Pictures decoded at one size, and what each shows.

    `pixels` (N, S, S, 3) uint8 RGB; `labels` N strings; `unreadable` names each picture left out, with the reason.
    """

    pixels: np.ndarray
    labels: tuple[str, ...]
    unreadable: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def classes(self) -> list[str]:
        """The labels that occur, sorted."""
        return sorted(set(self.labels))

    @property
    def targets(self) -> np.ndarray:
        """(N,) int64: each picture's place in `classes`."""
        return np.unique(np.array(self.labels), return_inverse=True)[1].astype(np.int64)


def load_labelled(
    sources: Sequence[str | Path], *, image_size: int, split: str | None = None, label_column: str = "label"
) -> LabelledImages:
    """Read labelled pictures from parquet files and folders, squashed to `image_size` squared.

    A parquet file has a column `image` (encoded bytes, or a struct with `bytes`), `label_column`, and may have `split`;
    in a folder the label is the name of the folder a picture lies in. `split` keeps the rows of that split; a source
    that has no split column is kept whole. Pictures that do not decode are left out and named in `unreadable`. Raises
    `SourceError` for sources that cannot be read, `UsageError` where nothing is left.
    """
    pixels, labels, unreadable = [], [], []
    for source in sources:
        for name, data, label in _rows(Path(source), split, label_column):
            try:
                pixels.append(decode(data, image_size).pixels)
            except ImageError as error:
                unreadable.append(f"{name}: {error}")
            else:
                labels.append(label)
    if not labels:
        raise UsageError(f"expected pictures with labels, got none in {', '.join(map(str, sources)) or 'no source'}")
    return LabelledImages(pixels=np.stack(pixels), labels=tuple(labels), unreadable=tuple(unreadable))


def _rows(source: Path, split: str | None, label_column: str) -> Iterator[tuple[str, bytes, str]]:
    if source.is_dir():
        yield from _folder_rows(source)
    elif source.suffix == ".parquet" and source.is_file():
        yield from _parquet_rows(source, split, label_column)
    else:
        raise SourceError(f"expected a folder of labelled folders or a .parquet file, got {source}")


def _folder_rows(folder: Path) -> Iterator[tuple[str, bytes, str]]:
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file() and path.parent != folder:
            yield str(path), path.read_bytes(), path.parent.name


def _parquet_rows(path: Path, split: str | None, label_column: str) -> Iterator[tuple[str, bytes, str]]:
    try:
        file = pq.ParquetFile(path)
    except (OSError, ValueError) as error:
        raise SourceError(f"expected a parquet file, got {path}: {error}") from None
    present = file.schema_arrow.names
    missing = {"image", label_column} - set(present)
    if missing:
        raise SourceError(f"expected columns 'image' and {label_column!r} in {path}, got {', '.join(present)}")
    filters = split is not None and "split" in present
    columns = ["image", label_column] + (["split"] if filters else [])
    number, splits = -1, set()
    for batch in file.iter_batches(batch_size=256, columns=columns):
        for row in batch.to_pylist():
            number += 1
            if filters:
                splits.add(row["split"])
                if row["split"] != split:
                    continue
            image = row["image"]
            yield f"{path}#{number}", image["bytes"] if isinstance(image, dict) else image, str(row[label_column])
    if filters and split not in splits:
        raise UsageError(f"expected a split among {', '.join(sorted(map(str, splits)))} in {path}, got {split!r}")
