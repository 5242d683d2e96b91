"""Why a picture matches a query: which of its places the ranker compares with which of the query's."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from indexer.searching.pictures import EncodedPicture
from retrieval.errors import ImageError, UsageError
from retrieval.ranker_weights import Ranker
from retrieval.reranking.described import Described
from retrieval.tokens import Tokens


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


def explain(ranker: Ranker, query: EncodedPicture, image: EncodedPicture) -> MatchExplanation:
    """How the ranker compares two pictures that were encoded with tokens, and whose places are known.

    They are of pictures that were read: no index keeps where its tokens lie. Raises `ImageError` or `UsageError`.
    """
    for picture in (query, image):
        if picture.attention is None:
            raise ImageError(
                "expected a picture to tell where its tokens lie, got a stored vector: the picture is gone"
            )
        if picture.tokens is None:
            raise UsageError("expected pictures encoded by a model with local tokens, got some that have none")
    tokens_NTE, mask_NT = Tokens.concatenate([query.tokens, image.tokens]).padded()
    described = Described(
        vectors=torch.from_numpy(np.stack([query.vector, image.vector])),
        dims=torch.tensor([query.dim, image.dim]).float(),
        tokens=tokens_NTE,
        mask=mask_NT,
        numbers=torch.zeros(2, 0),
        categories=torch.zeros(2, 0, dtype=torch.int64),
    )
    return MatchExplanation(
        weights=ranker.explain(described.take(0), described.take(1)),
        query_places=query.token_places,
        image_places=image.token_places,
        grid=tuple(image.attention.shape),
    )
