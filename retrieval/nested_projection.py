"""The nested projection: a linear map onto axes, widest first, and a correction by a small net."""

import torch
from torch import nn


class NestedProjection(nn.Linear):
    """Pooled vectors (B, C) to D numbers (B, D) of which any prefix, normalised, is an embedding.

    To the linear map a small net adds a correction: it lets plain pictures have axes of their own, of which few are
    enough, while crowded ones keep the linear map's. The correction is zero at first, and learned by a stage of its own
    (`retrieval.training.concentrate`): no other training moves it.
    """

    def __init__(self, num_channels: int, num_dims: int, *, num_hidden: int):
        super().__init__(num_channels, num_dims)
        self.correction = correction_net(num_channels, num_dims, num_hidden).requires_grad_(False)

    def forward(self, pooled_BC: torch.Tensor) -> torch.Tensor:
        return super().forward(pooled_BC) + self.correction(pooled_BC)

    @torch.no_grad()
    def forget_correction(self) -> None:
        """Make the correction zero again, in place."""
        _silence(self.correction)


def correction_net(num_channels: int, num_dims: int, num_hidden: int) -> nn.Sequential:
    """A fresh net from (B, `num_channels`) to (B, `num_dims`) that says zero."""
    net = nn.Sequential(
        nn.LayerNorm(num_channels), nn.Linear(num_channels, num_hidden), nn.GELU(), nn.Linear(num_hidden, num_dims)
    )
    _silence(net)
    return net


def _silence(net: nn.Sequential) -> None:
    nn.init.zeros_(net[-1].weight)
    nn.init.zeros_(net[-1].bias)
