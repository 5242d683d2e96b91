"""Normalisation, activation, stochastic depth and layer scale, on feature maps (B, C, H, W)."""

import torch
import torch.nn.functional as F
from torch import nn

ACTIVATIONS = {"gelu": nn.GELU, "silu": nn.SiLU, "relu": nn.ReLU, "none": nn.Identity}


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of a (B, C, H, W) feature map, each location by itself."""

    def forward(self, features_BCHW: torch.Tensor) -> torch.Tensor:
        features_BHWC = features_BCHW.permute(0, 2, 3, 1)
        normed_BHWC = F.layer_norm(features_BHWC, self.normalized_shape, self.weight, self.bias, self.eps)
        return normed_BHWC.permute(0, 3, 1, 2)


class BatchNormAct(nn.BatchNorm2d):
    """BatchNorm followed by an activation; in one module, so that its parameters keep timm's names."""

    def __init__(self, num_channels: int, activation: str = "none"):
        super().__init__(num_channels)
        self.act = ACTIVATIONS[activation]()

    def forward(self, features_BCHW: torch.Tensor) -> torch.Tensor:
        return self.act(super().forward(features_BCHW))


def norm2d(kind: str, num_channels: int) -> nn.Module:
    """The norm of a transformer block: `"layer"` or `"batch"`."""
    return LayerNorm2d(num_channels, eps=1e-6) if kind == "layer" else nn.BatchNorm2d(num_channels, eps=1e-6)


class DropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016, arXiv 1603.09382): in training a sample's branch is dropped with `rate`."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, branch_BCHW: torch.Tensor) -> torch.Tensor:
        if not self.training or self.rate == 0:
            return branch_BCHW
        kept = 1 - self.rate
        mask_B = torch.empty(len(branch_BCHW), 1, 1, 1, device=branch_BCHW.device).bernoulli_(kept) / kept
        return branch_BCHW * mask_B.to(branch_BCHW.dtype)


class LayerScale2d(nn.Module):
    """A learned factor a channel (Touvron et al. 2021, arXiv 2103.17239)."""

    def __init__(self, num_channels: int, initial: float):
        super().__init__()
        self.gamma = nn.Parameter(torch.full((num_channels,), initial))

    def forward(self, branch_BCHW: torch.Tensor) -> torch.Tensor:
        return branch_BCHW * self.gamma.view(1, -1, 1, 1)
