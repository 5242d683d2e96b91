"""What a ranker is trained and validated on: labelled pictures with what an index of them finds, and judged queries."""

from typing import TYPE_CHECKING

import numpy as np

from retrieval.errors import UsageError
from ui.printing import shows_bars

if TYPE_CHECKING:
    from retrieval import Embedder, Embeddings
    from retrieval.datasets import LabelledImages
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
) -> "RankingExamples":
    """Each labelled picture with the others that an index of all of them finds.

    With `guards` what may be a false negative does not count: to train; without, all does: to measure.
    """
    from indexer.buckets import BucketedIndex
    from retrieval.reranking.described import describe
    from retrieval.training.ranker_examples import NEAR_DUPLICATE, labelled_examples, without_self

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
