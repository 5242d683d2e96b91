"""Local tokens: what an image shows, location by location, for the ranker to compare.

Pooling says which locations matter. The ones it attends to most become tokens: projected, L2-normalised, stored in
one byte a number. The more numbers the embedding of an image has, the more tokens it has.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from retrieval.errors import UsageError

MAX_TOKEN_BYTES = 4096
"""The most that the tokens of one image may take."""

NUMBERS_PER_TOKEN = 8
"""An embedding of d numbers comes with a token for every eighth of them, as far as its bytes reach."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Tokens:
    """The local tokens of N images, one image's after the other's.

    `values` (sum of counts, D) int8: each a unit vector times 127 over its largest entry, rounded; divided by its norm
    it is the unit vector again. `counts` (N,) int64: how many belong to each image, most attended first.
    """

    values: np.ndarray
    counts: np.ndarray

    def __post_init__(self):
        if self.values.ndim != 2 or self.values.dtype != np.int8 or self.counts.sum() != len(self.values):
            raise UsageError(
                f"expected tokens (sum of counts = {self.counts.sum()}, D) int8, "
                f"got {self.values.shape} {self.values.dtype}; take them from Embedder.encode"
            )

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def offsets(self) -> np.ndarray:
        """(N + 1,) int64: where each image's tokens begin; the last is where they end."""
        return np.concatenate([[0], np.cumsum(self.counts)])

    def take(self, images: Sequence[int] | np.ndarray) -> "Tokens":
        """The tokens of some of the images, by their places, in that order, or a mask (N,); one may be named twice."""
        images = np.asarray(images)
        images = np.arange(len(self))[images] if images.dtype == bool else images.astype(np.int64)
        counts = self.counts[images]
        return Tokens(values=self.values[rows_of(self.offsets[:-1][images], counts)], counts=counts)

    def padded(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens (N, T, D) float32, unit vectors, zero where there is none; mask (N, T), True where there is one."""
        num_most = max(int(self.counts.max(initial=0)), 1)
        mask_NT = torch.from_numpy(np.arange(num_most) < self.counts[:, None])
        tokens_NTD = torch.zeros(len(self), num_most, self.values.shape[1])
        tokens_NTD[mask_NT] = F.normalize(torch.from_numpy(self.values.astype(np.float32, order="C")), dim=-1)
        return tokens_NTD, mask_NT

    @classmethod
    def concatenate(cls, parts: Sequence["Tokens"]) -> "Tokens":
        """Several batches as one."""
        return cls(
            values=np.concatenate([part.values for part in parts]),
            counts=np.concatenate([part.counts for part in parts]),
        )


def rows_of(starts_N: np.ndarray, counts_N: np.ndarray) -> np.ndarray:
    """(sum of counts,) int64: starts_N[0], starts_N[0] + 1, … counts_N[0] of them, then on from starts_N[1]."""
    ends_N = np.cumsum(counts_N)
    return np.arange(counts_N.sum()) + np.repeat(starts_N - (ends_N - counts_N), counts_N)


class LocalTokens(nn.Module):
    """One linear map for all locations: feature map (B, C, h, w) → tokens (B, h·w, D), L2-normalised."""

    def __init__(self, num_channels: int, token_dim: int):
        super().__init__()
        self.projection = nn.Linear(num_channels, token_dim)

    def forward(self, features_BCHW: torch.Tensor) -> torch.Tensor:
        return F.normalize(self.projection(features_BCHW.flatten(2).mT), dim=-1)


def num_tokens(dims: torch.Tensor, *, token_bytes: int, token_dim: int, num_locations: int) -> torch.Tensor:
    """How many tokens embeddings of `dims` (B,) numbers come with, (B,) int64, at least one each."""
    if not token_dim <= token_bytes <= MAX_TOKEN_BYTES:
        raise UsageError(
            f"expected token_bytes of 0, or from {token_dim} (one token) to {MAX_TOKEN_BYTES}, got {token_bytes}"
        )
    return (dims / NUMBERS_PER_TOKEN).ceil().long().clamp(1, min(token_bytes // token_dim, num_locations))


def most_attended(attention_BHW: torch.Tensor, counts_B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The `counts_B` (B,) locations that pooling attends to most, best first.

    Returns flat locations (B, T) int64, T the largest count, and mask (B, T), True for those that count.
    """
    order_BN = attention_BHW.flatten(1).argsort(dim=1, descending=True, stable=True)
    places_BT = order_BN[:, : int(counts_B.max())]
    return places_BT, torch.arange(places_BT.shape[1], device=places_BT.device) < counts_B[:, None]


def quantised(tokens_MD: torch.Tensor) -> np.ndarray:
    """Unit vectors (M, D) as int8, by the scale that uses the whole byte; normalising undoes it."""
    largest_M1 = tokens_MD.abs().amax(dim=1, keepdim=True).clamp_min(1e-12)
    return (tokens_MD / largest_M1 * 127).round().to(torch.int8).cpu().numpy()
