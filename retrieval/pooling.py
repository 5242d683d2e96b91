"""Attention pooling: a feature map (B, C, h, w) to one vector, and the map that says where it looked.

Every pooling returns `(pooled_BC, attention_Bhw)`; each attention map is non-negative and sums to 1. It is what the
user is shown as the explanation, and float32 or finer whatever the weights are. `create(kind, num_channels)` builds one
by name.
"""

import torch
import torch.nn.functional as F
from torch import nn

from retrieval.device import full_precision
from retrieval.errors import UsageError
from retrieval.nearest_name import did_you_mean


def weighted_mean(features_BCHW: torch.Tensor, weights_BHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean over the locations by non-negative weights: (pooled (B, C), attention (B, H, W) that sums to 1).

    Where the weights have underflowed, all locations weigh the same.
    """
    weights_BHW = full_precision(weights_BHW)
    height, width = weights_BHW.shape[1:]
    total_B11, tiny = weights_BHW.sum((1, 2), keepdim=True), torch.finfo(torch.float32).tiny
    attention_BHW = torch.where(total_B11 < tiny, 1 / (height * width), weights_BHW / total_B11.clamp_min(tiny))
    pooled_BC = torch.einsum("bchw,bhw->bc", full_precision(features_BCHW), attention_BHW)
    return pooled_BC, attention_BHW


class SigmoidPooling(nn.Module):
    """A small fully connected net gives each location a weight in 0..1; the pooled vector is the weighted mean."""

    def __init__(self, num_channels: int, num_hidden: int = 128):
        super().__init__()
        self.weigh = nn.Sequential(
            nn.Conv2d(num_channels, num_hidden, 1), nn.GELU(), nn.Conv2d(num_hidden, 1, 1), nn.Sigmoid()
        )

    def forward(self, features_BCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return weighted_mean(features_BCHW, self.weigh(features_BCHW).squeeze(1))


class MeanPooling(nn.Module):
    """Global average pooling: every location weighs the same. No attention; what the others are compared with."""

    def __init__(self, num_channels: int):
        super().__init__()

    def forward(self, features_BCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return weighted_mean(features_BCHW, features_BCHW.new_ones(features_BCHW[:, 0].shape))


class SoftmaxPooling(nn.Module):
    """Softmax over each location's similarity to one learned context vector (Yang et al. 2016, eq. 5 to 7).

    u_i = tanh(W x_i + b), a_i = softmax_i(u_iᵀ u_c), pooled = Σ_i a_i x_i.
    """

    def __init__(self, num_channels: int, num_hidden: int = 128):
        super().__init__()
        self.hidden = nn.Conv2d(num_channels, num_hidden, 1)
        self.context = nn.Parameter(torch.randn(num_hidden) / num_hidden**0.5)

    def forward(self, features_BCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden_BDHW = self.hidden(features_BCHW).tanh()
        similarity_BHW = torch.einsum("bdhw,d->bhw", full_precision(hidden_BDHW), full_precision(self.context))
        attention_BHW = similarity_BHW.flatten(1).softmax(1).unflatten(1, similarity_BHW.shape[1:])
        return weighted_mean(features_BCHW, attention_BHW)


class MultiheadPooling(nn.Module):
    """A learned query a head attends to the locations; heads see their own slice of the values, joined by one map.

    The attention shown is the mean over the heads.
    """

    def __init__(self, num_channels: int, num_heads: int = 4):
        super().__init__()
        if num_channels % num_heads:
            raise UsageError(f"expected channels that {num_heads} heads divide, got {num_channels}")
        self.query_hD = nn.Parameter(torch.randn(num_heads, num_channels // num_heads))
        self.key = nn.Conv2d(num_channels, num_channels, 1)
        self.value = nn.Conv2d(num_channels, num_channels, 1)
        self.project = nn.Linear(num_channels, num_channels)

    def forward(self, features_BCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        height, width = features_BCHW.shape[-2:]
        num_heads, head_dim = self.query_hD.shape
        key_BhDN = full_precision(self.key(features_BCHW)).flatten(2).unflatten(1, (num_heads, head_dim))
        value_BhDN = full_precision(self.value(features_BCHW)).flatten(2).unflatten(1, (num_heads, head_dim))
        similarity_BhN = torch.einsum("hd,bhdn->bhn", full_precision(self.query_hD), key_BhDN) / head_dim**0.5
        attention_BhN = similarity_BhN.softmax(-1)
        pooled_BC = torch.einsum("bhn,bhdn->bhd", attention_BhN, value_BhDN).flatten(1)
        return self.project(pooled_BC.to(self.project.weight.dtype)), attention_BhN.mean(1).unflatten(
            1, (height, width)
        )


class StructuredPooling(nn.Module):
    """Weights that agree with their neighbours: mean-field inference of a grid CRF (Kim et al. 2017, arXiv 1702.00887).

    Each location i is attended or not, z_i ∈ {0, 1}. With unary score s_i from a small net and a learned coupling β for
    each of the two directions, mean-field iterates μ_i = sigmoid(s_i + Σ_{j∈N(i)} β (2 μ_j − 1)) over the four
    neighbours N(i); the weights are the marginals μ.
    """

    def __init__(self, num_channels: int, num_hidden: int = 128, num_iterations: int = 5):
        super().__init__()
        self.unary = nn.Sequential(nn.Conv2d(num_channels, num_hidden, 1), nn.GELU(), nn.Conv2d(num_hidden, 1, 1))
        self.coupling = nn.Parameter(torch.full((2,), 0.25))
        self.num_iterations = num_iterations

    def forward(self, features_BCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        score_B1HW = full_precision(self.unary(features_BCHW))
        across, down = full_precision(self.coupling)
        zero = torch.zeros_like(across)
        kernel = torch.stack([zero, down, zero, across, zero, across, zero, down, zero]).view(1, 1, 3, 3)
        marginal_B1HW = score_B1HW.sigmoid()
        for _ in range(self.num_iterations):
            # Beyond the border there is no neighbour: padding with 0 after centring adds nothing.
            message_B1HW = F.conv2d(2 * marginal_B1HW - 1, kernel, padding=1)
            marginal_B1HW = (score_B1HW + message_B1HW).sigmoid()
        return weighted_mean(features_BCHW, marginal_B1HW.squeeze(1))


POOLINGS = {
    "sigmoid": SigmoidPooling,
    "softmax": SoftmaxPooling,
    "multihead": MultiheadPooling,
    "structured": StructuredPooling,
    "mean": MeanPooling,
}


def create(kind: str, num_channels: int) -> nn.Module:
    """One of the poolings for feature maps of `num_channels`; raises `UsageError` for another kind."""
    if kind not in POOLINGS:
        raise UsageError(f"expected a pooling among {', '.join(POOLINGS)}, got {kind!r}{did_you_mean(kind, POOLINGS)}")
    return POOLINGS[kind](num_channels)
