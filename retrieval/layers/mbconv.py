"""MBConv with squeeze-and-excitation: the convolutional block of CoAtNet."""

from dataclasses import dataclass

import torch
from torch import nn

from retrieval.layers.choices import check_choices
from retrieval.layers.norm import ACTIVATIONS, BatchNormAct, DropPath

POOLS = ("avg2", "max")


@dataclass(frozen=True, kw_only=True)
class MBConvConfig:
    """How MBConv blocks are built; the defaults are the paper's network as timm reads it.

    `expand_from`: the width that is expanded, the block's `"output"` or its `"input"`. `stride_in`: what takes the
    stride, the depthwise convolution (`"depthwise"`) or a pooling before it (`"pool"`). `se_ratio`: squeezed
    channels per channel of the expanded width's base. `se_before_norm`: squeeze-and-excitation ahead of the second
    norm, as some trained weights have it.
    """

    expand_ratio: int = 4
    expand_from: str = "output"
    stride_in: str = "depthwise"
    pool: str = "avg2"
    activation: str = "gelu"
    pre_norm_activation: bool = False
    output_bias: bool = True
    se_ratio: float = 0.25
    se_activation: str = "silu"
    se_before_norm: bool = False

    def __post_init__(self):
        check_choices(
            self,
            expand_from=("output", "input"),
            stride_in=("depthwise", "pool"),
            pool=POOLS,
            activation=ACTIVATIONS,
            se_activation=ACTIVATIONS,
        )


class Downsample(nn.Module):
    """Halve the resolution by pooling (stride 2), then widen the channels with a 1×1 convolution where they grow."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int, pool: str = "avg2", bias: bool = True):
        super().__init__()
        pools = {"avg2": nn.AvgPool2d(2), "max": nn.MaxPool2d(3, stride=2, padding=1)}
        self.pool = pools[pool] if stride == 2 else nn.Identity()
        widens = in_channels != out_channels
        self.expand = nn.Conv2d(in_channels, out_channels, 1, bias=bias) if widens else nn.Identity()

    def forward(self, features_BCHW: torch.Tensor) -> torch.Tensor:
        return self.expand(self.pool(features_BCHW))


class SqueezeExcite(nn.Module):
    """Channels reweighted by a gate that sees the whole picture (Hu et al. 2018, arXiv 1709.01507)."""

    def __init__(self, num_channels: int, num_squeezed: int, activation: str):
        super().__init__()
        self.fc1 = nn.Conv2d(num_channels, num_squeezed, 1)
        self.act = ACTIVATIONS[activation]()
        self.fc2 = nn.Conv2d(num_squeezed, num_channels, 1)

    def forward(self, features_BCHW: torch.Tensor) -> torch.Tensor:
        mean_BC11 = features_BCHW.mean((2, 3), keepdim=True)
        return features_BCHW * self.fc2(self.act(self.fc1(mean_BC11))).sigmoid()


class MBConv(nn.Module):
    """Norm, 1×1 expansion, 3×3 depthwise, squeeze-and-excitation, 1×1 projection, residual.

    Input (B, C, H, W), output (B, `out_channels`, H/`stride`, W/`stride`). Parameter names are timm's.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int, config: MBConvConfig, drop_path: float):
        super().__init__()
        base = out_channels if config.expand_from == "output" else in_channels
        hidden = base * config.expand_ratio
        squeezed = int(config.se_ratio * (out_channels if config.expand_from == "output" else hidden))
        pools_first = stride == 2 and config.stride_in == "pool"

        if stride == 1 and in_channels == out_channels:
            self.shortcut = nn.Identity()
        else:
            self.shortcut = Downsample(
                in_channels, out_channels, stride=stride, pool=config.pool, bias=config.output_bias
            )
        self.pre_norm = BatchNormAct(in_channels, config.activation if config.pre_norm_activation else "none")
        self.down = Downsample(in_channels, in_channels, stride=2) if pools_first else nn.Identity()
        self.conv1_1x1 = nn.Conv2d(in_channels, hidden, 1, bias=False)
        self.norm1 = BatchNormAct(hidden, config.activation)
        self.conv2_kxk = nn.Conv2d(
            hidden, hidden, 3, stride=1 if pools_first else stride, padding=1, groups=hidden, bias=False
        )
        self.norm2 = BatchNormAct(hidden, config.activation)
        excite = SqueezeExcite(hidden, squeezed, config.se_activation)
        self.se_early = excite if config.se_before_norm else nn.Identity()
        self.se = nn.Identity() if config.se_before_norm else excite
        self.conv3_1x1 = nn.Conv2d(hidden, out_channels, 1, bias=config.output_bias)
        self.drop_path = DropPath(drop_path)

    def forward(self, features_BCHW: torch.Tensor) -> torch.Tensor:
        hidden = self.norm1(self.conv1_1x1(self.down(self.pre_norm(features_BCHW))))
        hidden = self.se(self.norm2(self.se_early(self.conv2_kxk(hidden))))
        return self.shortcut(features_BCHW) + self.drop_path(self.conv3_1x1(hidden))
