"""The pictures that a training learns from, and those that choose its best weights: by their splits, or held out."""

from collections.abc import Sequence

import typer

from retrieval.datasets import LabelledImages, load_labelled, splits_of
from retrieval.distributed import is_first_process
from retrieval.errors import UsageError
from ui.printing import one_line


def training_sets(
    sources: Sequence[str],
    *,
    image_size: int,
    label_column: str | None,
    group_column: str | None = None,
    columns: Sequence[str] = (),
    validation_sources: Sequence[str] = (),
    unlabelled: Sequence[str] = (),
) -> tuple[LabelledImages, LabelledImages, int]:
    """Pictures to train and to validate on, and how many were skipped: those are named on stderr.

    Rows whose split is `train` are for training and those of `val` for validation; where there are no such splits, and
    no `validation_sources`, classes are held out, or pictures where there are no labels. `unlabelled` ones are mixed
    in. Raises `UsageError` for classes in both.
    """
    num_skipped = 0

    def load(some: Sequence[str], split: str | None, **settings) -> LabelledImages:
        nonlocal num_skipped
        settings = {"label_column": label_column, "group_column": group_column, "columns": columns} | settings
        images = load_labelled(some, image_size=image_size, split=split, **settings)
        num_skipped += len(images.unreadable)
        for line in images.unreadable if is_first_process() else ():
            typer.echo(f"skipped {one_line(line)}", err=True)
        return images

    def split_of(some: Sequence[str], name: str) -> str | None:
        return name if name in splits_of(some) else None

    if validation_sources:
        training = load(sources, split_of(sources, "train"))
        validation = load(validation_sources, split_of(validation_sources, "val"))
    elif {"train", "val"} <= splits_of(sources):
        training, validation = load(sources, "train"), load(sources, "val", takes_unsplit=False)
    elif label_column is None:
        training, validation = load(sources, None).hold_out_instances()
    else:
        training, validation = load(sources, None).hold_out_classes()
    if shared := set(training.classes) & set(validation.classes):
        raise UsageError(
            f"expected other classes to validate on than to train on, got {len(shared)} in both, "
            f"such as {min(shared)!r}"
        )
    if unlabelled:
        more = load(unlabelled, split_of(unlabelled, "train"), label_column=None, group_column=None, columns=())
        training = training.with_unlabelled(more)
    return training, validation, num_skipped
