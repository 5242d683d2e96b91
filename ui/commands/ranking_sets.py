"""What a ranker is trained and validated on: labelled pictures with what an index of them finds, and judged queries."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from retrieval.errors import UsageError
from ui.printing import shows_bars

if TYPE_CHECKING:
    from retrieval import Embedder, Embeddings
    from retrieval.datasets import LabelledImages
    from retrieval.reranking.described import Described
    from retrieval.reranking.metadata import MetadataColumns
    from retrieval.training.ranker_examples import RankingExamples

_BATCH = 64


def found_examples(
    embedder: "Embedder",
    images: "LabelledImages",
    metadata: "MetadataColumns",
    *,
    num_candidates: int,
    token_bytes: int,
    guards: bool,
    per_class: Sequence[int] = (),
) -> "list[RankingExamples]":
    """Labelled pictures, each with the others that an index finds, as `lists_of` has them."""
    from retrieval.reranking.described import describe

    embeddings = _encode(embedder, images.pixels, token_bytes)
    numbers, categories = metadata.encode(images.columns or [{}] * len(images))
    return lists_of(
        embeddings,
        images.labels,
        describe(embeddings, as_queries=False, numbers=numbers, categories=categories),
        widths=embedder.widths,
        num_candidates=num_candidates,
        guards=guards,
        per_class=per_class,
    )


def lists_of(
    embeddings: "Embeddings",
    labels: Sequence[str | None],
    documents: "Described",
    *,
    widths: Sequence[int],
    num_candidates: int,
    guards: bool,
    per_class: Sequence[int] = (),
) -> "list[RankingExamples]":
    """N encoded pictures, each with the others that an index of all of them finds, or one of a thinned gallery.

    First the lists of the whole, then for each number in `per_class` those of galleries with so many pictures of a
    class (`retrieval.training.galleries`). Of several such sets each picture asks in one. With `guards` what may be a
    false negative does not count: to train; without, all does: to measure.
    """
    import torch

    from retrieval.training.galleries import thinned
    from retrieval.training.ranker_examples import NEAR_DUPLICATE, labelled_examples

    settings = {"documents": documents, "near_duplicate": NEAR_DUPLICATE if guards else None}
    divisions = [np.zeros(len(labels), np.int64)]
    for number in per_class:
        galleries = _only_large(thinned(labels, number), num_candidates)
        if (galleries > 0).any():  # else it is one gallery again, or there is none
            divisions.append(galleries)
    sets = []
    for place, galleries in enumerate(divisions):
        asks = np.arange(len(labels)) % len(divisions) == place
        candidates = _found_within(embeddings, widths, galleries, asks & (galleries >= 0), num_candidates)
        examples = labelled_examples(embeddings, labels, candidates, galleries=galleries, **settings)
        sets.append(examples if len(divisions) == 1 else examples.take(torch.from_numpy(asks)[examples.rows]))
    return sets


def shares_of(num_sets: int) -> list[float]:
    """Of each of the sets of `lists_of` in every step of training: half for the whole, the rest alike."""
    return [1.0] if num_sets == 1 else [0.5] + [0.5 / (num_sets - 1)] * (num_sets - 1)


def _only_large(galleries_N: np.ndarray, num_candidates: int) -> np.ndarray:
    """The galleries, -1 for the pictures of those in which no query has `num_candidates`."""
    sizes = np.bincount(galleries_N[galleries_N >= 0], minlength=1)
    return np.where((galleries_N >= 0) & (sizes[galleries_N] > num_candidates), galleries_N, -1)


def _found_within(
    embeddings: "Embeddings", widths: Sequence[int], galleries_N: np.ndarray, asks_N: np.ndarray, num_candidates: int
) -> np.ndarray:
    """(N, K) rows that each picture that asks finds in its own gallery, itself left out; 0 for the others."""
    from indexer.buckets import BucketedIndex
    from retrieval.training.ranker_examples import without_self

    candidates_NK = np.zeros((len(galleries_N), min(num_candidates, len(galleries_N) - 1)), np.int64)
    for gallery in np.unique(galleries_N[asks_N]):
        (rows,) = np.nonzero(galleries_N == gallery)
        (asking,) = np.nonzero((galleries_N == gallery) & asks_N)
        index = BucketedIndex(widths)
        index.add(rows, embeddings.vectors[rows], embeddings.dims[rows])
        _, found = index.search(embeddings.full[asking], candidates_NK.shape[1] + 1)
        candidates_NK[asking] = without_self(found, asking)
    return candidates_NK


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
