"""The sets a ranker is trained and validated on: labelled pictures with what an index of them finds."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import typer

from retrieval.datasets import LabelledImages, load_labelled, splits_of
from retrieval.errors import UsageError
from ui.printing import one_line, shows_bars

if TYPE_CHECKING:
    from retrieval import Embedder, Embeddings
    from retrieval.metadata import MetadataColumns
    from retrieval.ranker_examples import RankingExamples

_BATCH = 64


def labelled_sets(
    sources: Sequence[str],
    validation_sources: Sequence[str],
    *,
    image_size: int,
    label_column: str,
    columns: Sequence[str],
) -> tuple[LabelledImages, LabelledImages, int]:
    """Pictures to train and to validate on, with `columns`, and how many were skipped: those are named on stderr.

    Rows whose split is `train` are for training and those of `val` for validation; where there are no such splits, and
    no `validation_sources`, classes are held out. Raises `UsageError` for classes in both.
    """
    num_skipped = 0

    def load(some: Sequence[str], split: str | None, **settings: bool) -> LabelledImages:
        nonlocal num_skipped
        images = load_labelled(
            some, image_size=image_size, split=split, label_column=label_column, columns=columns, **settings
        )
        num_skipped += len(images.unreadable)
        for line in images.unreadable:
            typer.echo(f"skipped {one_line(line)}", err=True)
        return images

    def split_of(some: Sequence[str], name: str) -> str | None:
        return name if name in splits_of(some) else None

    if validation_sources:
        training = load(sources, split_of(sources, "train"))
        validation = load(validation_sources, split_of(validation_sources, "val"))
    elif {"train", "val"} <= splits_of(sources):
        training = load(sources, "train")
        validation = load(sources, "val", takes_unsplit=False)
    else:
        training, validation = load(sources, None).hold_out_classes()
    if shared := set(training.classes) & set(validation.classes):
        raise UsageError(
            f"expected other classes to validate on than to train on, got {len(shared)} in both, "
            f"such as {min(shared)!r}"
        )
    return training, validation, num_skipped


def found_examples(
    embedder: "Embedder",
    images: LabelledImages,
    metadata: "MetadataColumns",
    *,
    num_candidates: int,
    token_bytes: int,
    guards: bool,
) -> "RankingExamples":
    """Each labelled picture with the others that an index of all of them finds.

    With `guards` what may be a false negative does not count: to train; without, all does: to measure.
    """
    from indexer.buckets import BucketedIndex
    from retrieval.described import describe
    from retrieval.ranker_examples import NEAR_DUPLICATE, labelled_examples, without_self

    embeddings = _encode(embedder, images.pixels, token_bytes)
    numbers = np.arange(len(images))
    index = BucketedIndex(embedder.widths)
    index.add(numbers, embeddings.vectors, embeddings.dims)
    _, found = index.search(embeddings.full, num_candidates + 1)
    columns = metadata.encode(images.columns or [{}] * len(images))
    return labelled_examples(
        embeddings,
        images.labels,
        without_self(found, numbers),
        documents=describe(embeddings, as_queries=False, numbers=columns[0], categories=columns[1]),
        near_duplicate=NEAR_DUPLICATE if guards else None,
    )


def every_fifth_apart(examples: "RankingExamples") -> "tuple[RankingExamples, RankingExamples]":
    """(the others, every fifth query): to train and to validate on; raises `UsageError` for a single query."""
    import torch

    if len(examples) < 2:
        raise UsageError(
            "expected judgments, relevant and not, of at least 2 queries, got 1; record more with spyglass feedback add"
        )
    is_held = torch.arange(len(examples)) % 5 == 0
    return examples.take(~is_held), examples.take(is_held)


def _encode(embedder: "Embedder", pixels_NSS3: np.ndarray, token_bytes: int) -> "Embeddings":
    from tqdm import tqdm

    from retrieval import Embeddings

    starts = tqdm(range(0, len(pixels_NSS3), _BATCH), "encode", leave=False, disable=not shows_bars())
    return Embeddings.concatenate(
        [embedder.encode_pixels(pixels_NSS3[i : i + _BATCH], token_bytes=token_bytes) for i in starts]
    )
