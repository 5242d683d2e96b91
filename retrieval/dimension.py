"""How long an image's embedding must be: predicting `d`, and cutting there, softly in training and hard in use."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from retrieval.device import full_precision
from retrieval.errors import UsageError


class DimensionPredictor(nn.Module):
    """A small net from the pooled vector (B, C) to `d` (B,), a real number within [`min_dim`, `max_dim`].

    `d` moves geometrically between the ends, as the widths of the buckets do; a fresh net says `initial_dim`,
    their geometric mean when left out. A `bent` one passes what the net says through a `Bend`.
    """

    def __init__(
        self,
        num_channels: int,
        *,
        min_dim: int = 32,
        max_dim: int = 512,
        initial_dim: float | None = None,
        num_hidden: int = 64,
        bent: bool = False,
    ):
        super().__init__()
        initial_dim = math.sqrt(min_dim * max_dim) if initial_dim is None else initial_dim
        if not 1 <= min_dim <= initial_dim <= max_dim or min_dim == max_dim:
            raise UsageError(
                f"expected 1 ≤ min_dim ≤ initial_dim ≤ max_dim and min_dim < max_dim, got {min_dim}, {initial_dim}, "
                f"{max_dim}"
            )
        self.min_dim, self.max_dim = min_dim, max_dim
        self.net = nn.Sequential(
            nn.LayerNorm(num_channels), nn.Linear(num_channels, num_hidden), nn.GELU(), nn.Linear(num_hidden, 1)
        )
        share = math.log(initial_dim / min_dim) / math.log(max_dim / min_dim)
        share = min(max(share, 0.01), 0.99)
        nn.init.zeros_(self.net[-1].weight)
        nn.init.constant_(self.net[-1].bias, math.log(share / (1 - share)))
        self.bend = Bend() if bent else None

    def forward(self, pooled_BC: torch.Tensor) -> torch.Tensor:
        need_B = self.need(pooled_BC)
        share_B = (need_B if self.bend is None else self.bend(need_B)).sigmoid()
        return self.min_dim * (self.max_dim / self.min_dim) ** share_B

    def need(self, pooled_BC: torch.Tensor) -> torch.Tensor:
        """What the net says, (B,), any real number: higher where more numbers are needed."""
        return self.net(full_precision(pooled_BC)).squeeze(-1)

    @property
    def level(self) -> torch.Tensor:
        """The one number that lengthens all embeddings, and keeps their order."""
        return self.net[-1].bias if self.bend is None else self.bend.level


class Bend(nn.Module):
    """A rising line of three pieces, (B,) to (B,): one of `slopes` below, between and above two `knots`.

    So lengths keep their order, while those in the middle are drawn together and the outer ones apart. A fresh one
    changes nothing.
    """

    def __init__(self):
        super().__init__()
        self.register_buffer("knots", torch.zeros(2))
        self.register_buffer("slopes", torch.ones(3))
        self.register_buffer("level", torch.zeros(1))

    def forward(self, need_B: torch.Tensor) -> torch.Tensor:
        (low, high), (below, between, above) = self.knots, self.slopes
        outer_B = below * (need_B - low).clamp(max=0) + above * (need_B - high).clamp(min=0)
        return self.level + between * need_B.clamp(low, high) + outer_B


def soft_mask(dims_B: torch.Tensor, num_dims: int, temperature: float) -> torch.Tensor:
    """(B, `num_dims`) in 0..1: m_k = sigmoid((d − k + ½) / τ) for k = 1.., so that `d` gets a gradient."""
    k = torch.arange(1, num_dims + 1, device=dims_B.device, dtype=dims_B.dtype)
    return torch.sigmoid((dims_B[:, None] - k + 0.5) / temperature)


def soft_cut(full_BD: torch.Tensor, dims_B: torch.Tensor, temperature: float) -> torch.Tensor:
    """Embeddings faded out beyond `d` and L2-normalised, (B, D); differentiable in both arguments."""
    return F.normalize(full_BD * soft_mask(dims_B, full_BD.shape[1], temperature), dim=-1)


def hard_cut(full_BD: torch.Tensor, dims_B: torch.Tensor) -> torch.Tensor:
    """Embeddings that are zero beyond the whole number `d` and L2-normalised at that width, (B, D)."""
    k = torch.arange(full_BD.shape[1], device=full_BD.device)
    return F.normalize(full_BD * (k < dims_B[:, None]), dim=-1)


def whole_dims(dims_B: torch.Tensor, *, min_dim: int, max_dim: int) -> torch.Tensor:
    """Predicted lengths rounded to whole numbers, int64, within [`min_dim`, `max_dim`]."""
    return dims_B.round().long().clamp(min_dim, max_dim)
