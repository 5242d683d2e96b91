"""Normalisation, activation, stochastic depth and layer scale, on feature maps (B, C, H, W)."""

import torch
import torch.nn.functional as F
from torch import nn

from retrieval.distributed import num_ranks, sum_over_ranks

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


class SynchronisedBatchNorm(nn.BatchNorm2d):
    """A BatchNorm, with its activation if it has one, whose statistics in training are those of all processes' batches.

    It takes over parameters and buffers, with their names. Unlike torch's own it runs on CPUs too. Every process must
    bring as many values.
    """

    def __init__(self, norm: nn.BatchNorm2d):
        super().__init__(norm.num_features, eps=norm.eps, momentum=norm.momentum)
        self.weight, self.bias = norm.weight, norm.bias
        self.running_mean, self.running_var = norm.running_mean, norm.running_var
        self.num_batches_tracked = norm.num_batches_tracked
        self.act = norm.act if isinstance(norm, BatchNormAct) else nn.Identity()
        self.train(norm.training)

    def forward(self, features_BCHW: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return self.act(super().forward(features_BCHW))
        precise_BCHW = features_BCHW.float()
        num_values = num_ranks() * features_BCHW.numel() // self.num_features
        mean_C = sum_over_ranks(precise_BCHW.sum((0, 2, 3))) / num_values
        # Squares of what is left after the mean: the mean of squares less the squared mean would cancel digits.
        centred_BCHW = precise_BCHW - mean_C.view(1, -1, 1, 1)
        variance_C = sum_over_ranks(centred_BCHW.square().sum((0, 2, 3))) / num_values
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean_C, self.momentum)
            self.running_var.lerp_(variance_C * num_values / (num_values - 1), self.momentum)
        scale_C = self.weight * (variance_C + self.eps).rsqrt()
        normed_BCHW = centred_BCHW * scale_C.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)
        return self.act(normed_BCHW.to(features_BCHW.dtype))


def synchronise_batch_norms(module: nn.Module) -> None:
    """Replace every BatchNorm2d inside a module by one whose statistics are those of all processes, in place."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, SynchronisedBatchNorm(child))
        else:
            synchronise_batch_norms(child)


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
