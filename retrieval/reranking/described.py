"""What the ranker knows of a picture, as a query or as a candidate: vector, dimension, tokens, metadata."""

from typing import NamedTuple

import numpy as np
import torch

from retrieval.embedder import Embeddings
from retrieval.errors import UsageError


class Described(NamedTuple):
    """Pictures as tensors with any leading shape `...`: (Q,) for queries, (K,) or (Q, K) for candidates.

    `vectors` (..., D): unit length, a query's uncut, a candidate's zero beyond its `dims` (...). `tokens` (..., N, E):
    unit length, zero where `mask` (..., N) is False, that is beyond a picture's own number of them. `numbers`
    (..., M) and `categories` (..., C): the metadata columns, NaN and 0 where unknown (`retrieval.reranking.metadata`).
    """

    vectors: torch.Tensor
    dims: torch.Tensor
    tokens: torch.Tensor
    mask: torch.Tensor
    numbers: torch.Tensor
    categories: torch.Tensor

    def take(self, rows: torch.Tensor) -> "Described":
        """Some of the pictures, by their places in the first axis; `rows` of any shape becomes the leading one."""
        return Described(*(field[rows] for field in self))

    def map(self, function) -> "Described":
        """`function` of every tensor."""
        return Described(*(function(field) for field in self))


def similarity(queries_QD: torch.Tensor, stored: torch.Tensor) -> torch.Tensor:
    """Cosines (Q, J) of uncut queries with stored vectors (J, D), or with each query's own (Q, J, D).

    Over the numbers that a stored vector has: the same picture has 1, however short it was cut.
    """
    asked = queries_QD if stored.ndim == 2 else queries_QD[:, None]
    own = (asked.square() @ (stored != 0).to(asked).mT).sqrt().clamp_min(1e-6)
    return (asked @ stored.mT / own).flatten(1)


def describe(
    embeddings: Embeddings,
    *,
    as_queries: bool,
    numbers: np.ndarray | None = None,
    categories: np.ndarray | None = None,
) -> Described:
    """N encoded pictures, uncut as queries or cut as candidates, with their metadata.

    `numbers` (N, M) float and `categories` (N, C) integer as `MetadataColumns.encode` gives them, none when left out.
    Raises `UsageError` for embeddings without tokens.
    """
    if embeddings.tokens is None:
        raise UsageError("expected embeddings with tokens, got none; encode with token_bytes above 0")
    num_images = len(embeddings)
    tokens_NTE, mask_NT = embeddings.tokens.padded()
    return Described(
        vectors=torch.from_numpy(embeddings.full if as_queries else embeddings.vectors),
        dims=torch.from_numpy(embeddings.dims).float(),
        tokens=tokens_NTE,
        mask=mask_NT,
        numbers=torch.zeros(num_images, 0) if numbers is None else torch.as_tensor(numbers, dtype=torch.float32),
        categories=torch.zeros(num_images, 0, dtype=torch.int64)
        if categories is None
        else torch.as_tensor(categories, dtype=torch.int64),
    )
