"""A dimension that needs no learning: as many numbers as keep a set share of each image's energy."""

import torch
from torch import nn

from retrieval.dimension import DimensionPredictor
from retrieval.errors import UsageError

_BLOCK = 8192


class EnergyDimension(nn.Module):
    """From embeddings v (B, D), uncut, to `d` (B,): the smallest k with ‖v[:k]‖² ≥ share · ‖v‖².

    Whole numbers as floats, within [`min_dim`, `max_dim`]; no gradient. `fit_share` sets the share from a budget.
    """

    def __init__(self, *, share: float = 0.9, min_dim: int = 32, max_dim: int = 512):
        super().__init__()
        if not 0 <= share <= 1:
            raise UsageError(f"expected a share of the energy within 0..1, got {share}")
        if not 1 <= min_dim < max_dim:
            raise UsageError(f"expected 1 ≤ min_dim < max_dim, got {min_dim}, {max_dim}")
        self.min_dim, self.max_dim = min_dim, max_dim
        # What is left out, not what is kept: near 0 float16, the format on disk, is as fine as a share near 1 needs.
        self.register_buffer("left_out", torch.tensor(1.0 - share))

    @property
    def share(self) -> float:
        """The share of an image's energy that its first `d` numbers keep."""
        return 1.0 - float(self.left_out)

    def forward(self, full_BD: torch.Tensor) -> torch.Tensor:
        tails = tail_shares(full_BD, min_dim=self.min_dim, max_dim=self.max_dim)
        return self.min_dim + (tails > self.left_out).sum(-1).float()


def tail_shares(full_BD: torch.Tensor, *, min_dim: int, max_dim: int) -> torch.Tensor:
    """The share of each v's energy beyond its first k numbers, for k from `min_dim` to `max_dim` − 1: (B, that many).

    Each row falls; a v of zeros has shares of 0.
    """
    tails_BD = full_BD.float().square().flip(-1).cumsum(-1).flip(-1)
    return tails_BD[:, min_dim:max_dim] / tails_BD[:, :1].clamp_min(torch.finfo(torch.float32).tiny)


@torch.no_grad()
def fit_share(dimension: EnergyDimension, full_ND: torch.Tensor, budget: float) -> None:
    """Set the share so that the mean of `d` over `full_ND` is `budget`, in place.

    The mean misses it by at most 1/N unless tail shares are equal, as they are beyond the last axis that carries
    energy: where the budget is out of reach, the share becomes 1. Raises `UsageError` for a budget outside the ends.
    """
    check_budget(dimension, budget)
    # d is min_dim plus the number of tail shares above the threshold. So the mean is met where N · (budget − min_dim)
    # tail shares of the whole corpus lie above it: one order statistic, and nothing to search for.
    ends = {"min_dim": dimension.min_dim, "max_dim": dimension.max_dim}
    tails = torch.cat([tail_shares(block, **ends) for block in full_ND.split(_BLOCK)]).cpu().numpy().ravel()
    place = len(tails) - round((budget - dimension.min_dim) * len(full_ND)) - 1
    if place < 0:
        dimension.left_out.zero_()
    else:
        tails.partition(place)
        dimension.left_out.fill_(float(tails[place]))


def check_budget(dimension: EnergyDimension | DimensionPredictor, budget: float) -> None:
    """Raise `UsageError` for a mean that `d` cannot have."""
    if not dimension.min_dim <= budget <= dimension.max_dim:
        raise UsageError(f"expected a budget within {dimension.min_dim}..{dimension.max_dim}, got {budget:g}")
