"""Why a picture matches a query: which of its places the ranker compares with which of the query's."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from indexer.encoding import pixels_of
from retrieval.described import Described
from retrieval.errors import UsageError
from retrieval.ranker_weights import Ranker


@dataclass(frozen=True, kw_only=True, eq=False)
class MatchExplanation:
    """How much each pair of a query's token and an image's token counts for their match, in each of a ranker's heads.

    `weights` (heads, N, M) float32: the attention from either side to the other, the mean of both, so that they sum to
    1 in each head (`Ranker.explain`). `query_places` (N,) and `image_places` (M,) int64: where each token lies, row by
    row, on the `grid` (h, w) that is laid over either picture, whatever its proportions.
    """

    weights: np.ndarray
    query_places: np.ndarray
    image_places: np.ndarray
    grid: tuple[int, int]

    @cached_property
    def match_places(self) -> np.ndarray:
        """(N,) int64: the place of the image that each token of the query is compared with most, over all heads."""
        return self.image_places[self._mean_NM.argmax(axis=1)]

    @cached_property
    def match_weights(self) -> np.ndarray:
        """(N,) float32: how much that pair counts, the mean of the heads."""
        return self._mean_NM.max(axis=1)

    @cached_property
    def _mean_NM(self) -> np.ndarray:
        return self.weights.mean(axis=0)


def explain(
    embedder: Any,
    ranker: Ranker,
    query: Any,
    image: bytes,
    *,
    crop: tuple[int, int, int, int] | None,
    token_bytes: int,
) -> MatchExplanation:
    """Both pictures are encoded, since no index keeps where its tokens lie; raises `ImageError` or `UsageError`."""
    pixels = np.stack([pixels_of(query, embedder.image_size, crop), pixels_of(image, embedder.image_size)])
    embeddings = embedder.encode_pixels(pixels, token_bytes=token_bytes)
    if embeddings.tokens is None:
        raise UsageError(f"expected a model with local tokens, got {embedder.name}, which has none")
    tokens_NTE, mask_NT = embeddings.tokens.padded()
    described = Described(
        vectors=torch.from_numpy(embeddings.full),
        dims=torch.from_numpy(embeddings.dims).float(),
        tokens=tokens_NTE,
        mask=mask_NT,
        numbers=torch.zeros(2, 0),
        categories=torch.zeros(2, 0, dtype=torch.int64),
    )
    query_places, image_places = np.split(embeddings.token_places, embeddings.tokens.offsets[1:2])
    return MatchExplanation(
        weights=ranker.explain(described.take(0), described.take(1)),
        query_places=query_places,
        image_places=image_places,
        grid=tuple(embeddings.attention.shape[1:]),
    )
