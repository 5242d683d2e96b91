"""Labelled pictures to train and to measure on: parquet files with an image and a label column, folders of folders."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

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

    def hold_out_classes(self, *, one_in: int = 10) -> tuple["LabelledImages", "LabelledImages"]:
        """(kept, held out): every `one_in`-th class, and at least two, set apart whole; nothing is named unreadable."""
        classes = self.classes
        if len(classes) < 4:
            raise UsageError(f"expected at least 4 classes to hold 2 out of, got {len(classes)}")
        held = set(classes[:: min(one_in, len(classes) // 2)])
        is_held = np.array([label in held for label in self.labels])
        return self._subset(~is_held), self._subset(is_held)

    def _subset(self, mask_N: np.ndarray) -> "LabelledImages":
        chosen = tuple(label for label, keep in zip(self.labels, mask_N, strict=True) if keep)
        return LabelledImages(pixels=self.pixels[mask_N], labels=chosen)


class _Row(NamedTuple):
    """A picture before it is decoded; `split` is None where its source has none."""

    name: str
    data: bytes
    label: str
    split: str | None


def load_labelled(
    sources: Sequence[str | Path], *, image_size: int, split: str | None = None, label_column: str = "label"
) -> LabelledImages:
    """Read labelled pictures from parquet files and folders, squashed to `image_size` squared.

    A parquet file has a column `image` (encoded bytes, or a struct with `bytes`), `label_column`, and may have `split`;
    in a folder the label is the name of the folder a picture lies in. `split` keeps the rows of that split; a source
    that has no split column is kept whole. Pictures that do not decode are left out and named in `unreadable`. Raises
    `SourceError` for sources that cannot be read, `UsageError` where no picture is left.
    """
    pixels, labels, unreadable, splits = [], [], [], set()
    for source in sources:
        for row in _rows(Path(source), label_column):
            splits.add(row.split)
            if split is not None and row.split not in (None, split):
                continue
            try:
                pixels.append(decode(row.data, image_size).pixels)
            except ImageError as error:
                unreadable.append(f"{row.name}: {error}")
            else:
                labels.append(row.label)
    if not labels:
        where = ", ".join(map(str, sources)) or "no source"
        if split is not None and None not in splits and split not in splits:
            raise UsageError(f"expected a split among {', '.join(sorted(splits))} in {where}, got {split!r}")
        raise UsageError(f"expected pictures with labels, got none in {where}")
    return LabelledImages(pixels=np.stack(pixels), labels=tuple(labels), unreadable=tuple(unreadable))


def splits_of(sources: Sequence[str | Path]) -> set[str]:
    """The names of the splits that the parquet files among `sources` have; empty where none has a column for it."""
    splits = set()
    for path in map(Path, sources):
        if path.suffix == ".parquet" and "split" in _open_parquet(path).schema_arrow.names:
            splits |= set(map(str, pq.read_table(path, columns=["split"])["split"].unique().to_pylist()))
    return splits


def _rows(source: Path, label_column: str) -> Iterator[_Row]:
    if source.is_dir():
        yield from _folder_rows(source)
    elif source.suffix == ".parquet" and source.is_file():
        yield from _parquet_rows(source, label_column)
    else:
        raise SourceError(f"expected a folder of labelled folders or a .parquet file, got {source}")


def _folder_rows(folder: Path) -> Iterator[_Row]:
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file() and path.parent != folder:
            yield _Row(str(path), path.read_bytes(), path.parent.name, None)


def _parquet_rows(path: Path, label_column: str) -> Iterator[_Row]:
    file = _open_parquet(path)
    present = file.schema_arrow.names
    if missing := {"image", label_column} - set(present):
        raise SourceError(
            f"expected columns 'image' and {label_column!r} in {path}, lacks {', '.join(sorted(missing))} "
            f"among {', '.join(present)}"
        )
    columns = ["image", label_column] + (["split"] if "split" in present else [])
    number = 0
    for batch in file.iter_batches(batch_size=256, columns=columns):
        for row in batch.to_pylist():
            image = row["image"]
            data = image.get("bytes") if isinstance(image, dict) else image
            row_split = None if row.get("split") is None else str(row["split"])
            if row[label_column] is not None:  # a picture without a label teaches and measures nothing
                yield _Row(f"{path}#{number}", data or b"", str(row[label_column]), row_split)
            number += 1


def _open_parquet(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (OSError, ValueError) as error:
        raise SourceError(f"expected a parquet file, got {path}: {error}") from None
