"""Pictures to train and to measure on, with labels, with groups or with neither: parquet files and folders."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from retrieval.errors import ImageError, SourceError, UsageError
from retrieval.images import IMAGE_SUFFIXES, decode


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledImages:
    """Pictures decoded at one size, and what is known of each.

    `pixels` (N, S, S, 3) uint8 RGB; `labels` N strings, None where a picture has none; `groups`, if there are any, N
    strings or None: pictures of one group show the same thing; `unreadable` names each picture left out, with the
    reason. `columns`, if any were asked for, N mappings from those that the picture's source has to their values.
    """

    pixels: np.ndarray
    labels: tuple[str | None, ...]
    groups: tuple[str | None, ...] | None = None
    unreadable: tuple[str, ...] = ()
    columns: tuple[Mapping[str, Any], ...] | None = None

    def __post_init__(self):
        for name in ("labels", "groups", "columns"):
            values = getattr(self, name)
            if values is not None and len(values) != len(self.pixels):
                raise UsageError(f"expected {name} of {len(self.pixels)} pictures, one each, got {len(values)}")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def classes(self) -> list[str]:
        """The labels that occur, sorted."""
        return sorted(set(self.labels) - {None})

    @property
    def targets(self) -> np.ndarray:
        """(N,) int64: each picture's place in `classes`, −1 for those without a label."""
        place = {label: i for i, label in enumerate(self.classes)}
        return np.array([-1 if label is None else place[label] for label in self.labels], dtype=np.int64)

    @property
    def instances(self) -> np.ndarray:
        """(N,) int64: the number of the first picture that shows the same thing, by its group; else its own."""
        first: dict[str | None, int] = {}
        groups = self.groups or (None,) * len(self)
        return np.array(
            [i if group is None else first.setdefault(group, i) for i, group in enumerate(groups)], dtype=np.int64
        )

    def hold_out_classes(self, *, one_in: int = 10) -> tuple["LabelledImages", "LabelledImages"]:
        """(kept, held out): every `one_in`-th class, and at least two, set apart whole; nothing is named unreadable.

        Groups stay whole too: classes that share one go together, and a picture without a label goes with its group.
        """
        targets, instances = self.targets, self.instances
        family_of_class = _families(targets, instances, len(self.classes))
        families = np.unique(family_of_class)
        if len(families) < 4:
            apart = " that share no group" if self.groups else ""
            raise UsageError(f"expected at least 4 classes{apart} to hold 2 out of, got {len(families)}")
        held = families[:: min(one_in, len(families) // 2)]
        (labelled,) = np.nonzero(targets >= 0)
        is_held = np.isin(instances, instances[labelled[np.isin(family_of_class[targets[labelled]], held)]])
        return self._subset(~is_held), self._subset(is_held)

    def hold_out_instances(self, *, one_in: int = 10) -> tuple["LabelledImages", "LabelledImages"]:
        """(kept, held out): every `one_in`-th group or single picture, and at least two, whatever the labels.

        Where some groups have several pictures, the groups held out are among those: only they can be found again.
        """
        instances = self.instances
        numbers, sizes = np.unique(instances, return_counts=True)
        candidates = numbers[sizes > 1] if (sizes > 1).sum() >= 4 else numbers
        if len(candidates) < 4:
            raise UsageError(f"expected at least 4 different pictures to hold 2 out of, got {len(candidates)}")
        is_held = np.isin(instances, candidates[:: min(one_in, len(candidates) // 2)])
        return self._subset(~is_held), self._subset(is_held)

    def with_unlabelled(self, others: "LabelledImages") -> "LabelledImages":
        """These pictures, followed by the pixels of others of the same size, of which nothing more is known."""
        nothing = (None,) * len(others)
        return LabelledImages(
            pixels=np.concatenate([self.pixels, others.pixels]),
            labels=self.labels + nothing,
            groups=None if self.groups is None else self.groups + nothing,
            columns=None if self.columns is None else self.columns + ({},) * len(others),
        )

    def _subset(self, mask_N: np.ndarray) -> "LabelledImages":
        labels, groups, columns = (
            values and tuple(value for value, keep in zip(values, mask_N, strict=True) if keep)
            for values in (self.labels, self.groups, self.columns)
        )
        return LabelledImages(pixels=self.pixels[mask_N], labels=labels, groups=groups, columns=columns)


def _families(targets_N: np.ndarray, instances_N: np.ndarray, num_classes: int) -> np.ndarray:
    """(K,) int64: the first of the classes each class is joined to by shared groups, directly or through others."""
    is_labelled = targets_N >= 0
    targets, instances = targets_N[is_labelled], instances_N[is_labelled]
    family_K = np.arange(num_classes)
    while True:
        lowest_N = np.full(len(targets_N), num_classes)
        np.minimum.at(lowest_N, instances, family_K[targets])
        joined_K = family_K.copy()
        np.minimum.at(joined_K, targets, lowest_N[instances])
        if (joined_K == family_K).all():
            return family_K
        family_K = joined_K


class _Row(NamedTuple):
    """A picture before it is decoded; `label`, `group` and `split` are None where its source has none."""

    name: str
    data: bytes
    label: str | None
    group: str | None
    split: str | None
    columns: Mapping[str, Any]


def load_labelled(
    sources: Sequence[str | Path],
    *,
    image_size: int,
    split: str | None = None,
    label_column: str | None = "label",
    group_column: str | None = None,
    needs_labels: bool = True,
    takes_unsplit: bool = True,
    columns: Sequence[str] = (),
) -> LabelledImages:
    """Read pictures from parquet files and folders, squashed to `image_size` squared.

    A parquet file has a column `image` (encoded bytes, or a struct with `bytes`), the columns asked for, and may have
    `split`; in a folder the label, or the group, is the name of the folder a picture lies in. `label_column` None reads
    no labels; `group_column` names what pictures of one thing have in common. Where labels alone are read, pictures
    without one are left out; without `needs_labels` they stay, and files may lack the column. `split` keeps the rows of
    that split and, if it `takes_unsplit`, those of none, such as all of a folder. Of further `columns` each picture has
    those that its source has. Pictures that do not decode are left out and named in `unreadable`. Raises `SourceError`
    for sources that cannot be read, `UsageError` where no picture is left.
    """
    if isinstance(sources, str | Path):
        raise UsageError(f"expected a sequence of sources, got one {type(sources).__name__}; put it in a list")
    # Where labels are all there is to learn from, a picture without one teaches and measures nothing.
    labels_alone = needs_labels and label_column is not None and group_column is None
    pixels, labels, groups, values, unreadable, splits = [], [], [], [], [], set()
    for source in sources:
        for row in _rows(Path(source), label_column, group_column, needs_labels, columns):
            if labels_alone and row.label is None:
                continue
            splits.add(row.split)
            if split not in (None, row.split) and not (takes_unsplit and row.split is None):
                continue
            try:
                pixels.append(decode(row.data, image_size).pixels)
            except ImageError as error:
                unreadable.append(f"{row.name}: {error}")
            else:
                labels.append(row.label)
                groups.append(row.group)
                values.append(row.columns)
    if not labels:
        where = ", ".join(map(str, sources)) or "no source"
        if splits and split is not None and None not in splits and split not in splits:
            raise UsageError(f"expected a split among {', '.join(sorted(splits))} in {where}, got {split!r}")
        hint = ""
        if tables := sorted(table for source in sources for table in Path(source).glob("*.parquet")):
            hint = f"; tables in a folder are to be named themselves, such as {tables[0]}"
        elif labels_alone and not unreadable and any(Path(source).is_dir() for source in sources):
            hint = "; a label is the name of the folder that a picture lies in: FOLDER/LABEL/PICTURE"
        raise UsageError(f"expected pictures{' with labels' if labels_alone else ''}, got none in {where}{hint}")
    return LabelledImages(
        pixels=np.stack(pixels),
        labels=tuple(labels),
        groups=None if group_column is None else tuple(groups),
        unreadable=tuple(unreadable),
        columns=tuple(values) if columns else None,
    )


def splits_of(sources: Sequence[str | Path]) -> set[str]:
    """The names of the splits that the parquet files among `sources` have; empty where none has a column for it."""
    splits = set()
    for path in map(Path, sources):
        if path.suffix == ".parquet" and "split" in _open_parquet(path).schema_arrow.names:
            splits |= set(map(str, pq.read_table(path, columns=["split"])["split"].unique().to_pylist()))
    return splits


def _rows(
    source: Path, label_column: str | None, group_column: str | None, needs_labels: bool, columns: Sequence[str]
) -> Iterator[_Row]:
    if source.is_dir():
        yield from _folder_rows(source, label_column is not None, group_column is not None)
    elif source.suffix == ".parquet" and source.is_file():
        yield from _parquet_rows(source, label_column, group_column, needs_labels, columns)
    else:
        kind = "labelled folders" if (label_column and needs_labels) or group_column else "pictures"
        raise SourceError(f"expected a folder of {kind} or a .parquet file, got {source}")


def _folder_rows(folder: Path, reads_labels: bool, reads_groups: bool) -> Iterator[_Row]:
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in IMAGE_SUFFIXES or not path.is_file():
            continue
        name = None if path.parent == folder else path.parent.name
        label, group = name if reads_labels else None, name if reads_groups else None
        yield _Row(str(path), path.read_bytes(), label, group, None, {})


def _parquet_rows(
    path: Path, label_column: str | None, group_column: str | None, needs_labels: bool, columns: Sequence[str]
) -> Iterator[_Row]:
    file = _open_parquet(path)
    present = file.schema_arrow.names
    if not needs_labels and label_column not in present:
        label_column = None
    wanted = ["image", *dict.fromkeys(column for column in (label_column, group_column) if column is not None)]
    if missing := set(wanted) - set(present):
        raise SourceError(
            f"expected columns {' and '.join(map(repr, wanted))} in {path}, lacks {', '.join(sorted(missing))} "
            f"among {', '.join(present)}"
        )
    if not _holds_pictures(kind := file.schema_arrow.field("image").type):
        raise SourceError(f"expected the bytes of pictures in column 'image' of {path}, got {kind}; put them there")
    further = [name for name in columns if name in present]
    read = list(dict.fromkeys([*wanted, *further, *({"split"} & {*present})]))
    number = 0
    for batch in _batches(file, read, path):
        for row in batch.to_pylist():
            image = row["image"]
            data = image.get("bytes") if isinstance(image, dict) else image
            label, group, split = (_text(row.get(column)) for column in (label_column, group_column, "split"))
            yield _Row(f"{path}#{number}", data or b"", label, group, split, {name: row[name] for name in further})
            number += 1


def _holds_pictures(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(kind.field(place).name == "bytes" for place in range(kind.num_fields))
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _batches(file: pq.ParquetFile, names: list[str], path: Path) -> Iterator[pa.RecordBatch]:
    try:
        yield from file.iter_batches(batch_size=256, columns=names)
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise SourceError(f"expected a parquet file that can be read to its end, got {path}: {reason}") from None


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _open_parquet(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (OSError, ValueError) as error:
        raise SourceError(f"expected a parquet file, got {path}: {error}") from None
