"""Relative self-attention over the locations of a feature map, and the transformer block around it."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from retrieval.layers.choices import check_choices
from retrieval.layers.mbconv import POOLS, Downsample
from retrieval.layers.norm import ACTIVATIONS, DropPath, LayerScale2d, norm2d
from retrieval.layers.relative_bias import BiasMLP, BiasTable, RelativeBias


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """How transformer blocks are built; the defaults are the paper's network as timm reads it.

    `attention`: the static kernel joins before softmax (`"pre"`) or after it (`"post"`). `bias`: the kernel is a
    `"table"` or an `"mlp"` of `bias_hidden` units. `widen_in`: channels grow in the query-key-value map (`"qkv"`) or in
    the output map (`"proj"`). `layer_scale`: initial factor of each branch, None for no such factor.
    """

    attention: str = "pre"
    head_dim: int = 32
    expand_ratio: int = 4
    widen_in: str = "qkv"
    bias: str = "table"
    bias_hidden: int = 512
    norm: str = "layer"
    activation: str = "gelu"
    pool: str = "avg2"
    shortcut_bias: bool = True
    layer_scale: float | None = None

    def __post_init__(self):
        check_choices(
            self,
            attention=("pre", "post"),
            widen_in=("qkv", "proj"),
            bias=("table", "mlp"),
            norm=("layer", "batch"),
            activation=ACTIVATIONS,
            pool=POOLS,
        )


class RelativeAttention(nn.Module):
    """Multi-head self-attention with a static kernel by offset (Dai et al. 2021, arXiv 2106.04803, section 2.1).

    With x_i the query at i, x_j the key at j and w the kernel:
    pre:  y_i = Σ_j softmax_j(x_iᵀx_j / √d + w[i−j]) · v_j;   post:  y_i = Σ_j (softmax_j(x_iᵀx_j / √d) + w[i−j]) · v_j.
    """

    def __init__(self, in_channels: int, out_channels: int, *, config: TransformerConfig, bias: RelativeBias):
        super().__init__()
        attended = out_channels if config.widen_in == "qkv" else in_channels
        self.head_dim = config.head_dim
        self.after_softmax = config.attention == "post"
        self.qkv = nn.Conv2d(in_channels, 3 * attended, 1)
        self.rel_pos = bias
        self.proj = nn.Conv2d(attended, out_channels, 1)

    def forward(self, features_BCHW: torch.Tensor) -> torch.Tensor:
        _, _, height, width = features_BCHW.shape
        # One head's query, key and value lie side by side in the channels; h heads of D numbers, N = H·W locations.
        qkv_BhDN = self.qkv(features_BCHW).flatten(2).unflatten(1, (-1, 3 * self.head_dim))
        query_BhND, key_BhND, value_BhND = qkv_BhDN.transpose(2, 3).chunk(3, dim=-1)
        kernel_hNN = self.rel_pos(height, width, query_BhND.dtype)
        if self.after_softmax:
            attended_BhND = F.scaled_dot_product_attention(query_BhND, key_BhND, value_BhND) + kernel_hNN @ value_BhND
        else:
            attended_BhND = F.scaled_dot_product_attention(
                query_BhND, key_BhND, value_BhND, attn_mask=kernel_hNN.unsqueeze(0)
            )
        attended_BCHW = attended_BhND.transpose(2, 3).flatten(1, 2).unflatten(2, (height, width))
        return self.proj(attended_BCHW)


class TransformerBlock(nn.Module):
    """Pre-norm relative attention and MLP, both residual; with stride 2 the input is pooled on both paths.

    Input (B, C, H, W), output (B, `out_channels`, H/`stride`, W/`stride`); `size` is the output's (height, width) that
    the bias table is made for. Parameter names are timm's.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: int,
        size: tuple[int, int],
        config: TransformerConfig,
        drop_path: float,
    ):
        super().__init__()
        num_heads = (out_channels if config.widen_in == "qkv" else in_channels) // config.head_dim
        bias = BiasMLP(num_heads, config.bias_hidden) if config.bias == "mlp" else BiasTable(*size, num_heads)
        norm1 = norm2d(config.norm, in_channels)
        if stride == 1 and in_channels == out_channels:
            self.shortcut = nn.Identity()
        else:
            self.shortcut = Downsample(
                in_channels, out_channels, stride=stride, pool=config.pool, bias=config.shortcut_bias
            )
        if stride == 2:
            self.norm1 = nn.Sequential()
            self.norm1.norm = norm1
            self.norm1.down = Downsample(in_channels, in_channels, stride=2, pool=config.pool)
        else:
            self.norm1 = norm1
        self.attn = RelativeAttention(in_channels, out_channels, config=config, bias=bias)
        self.norm2 = norm2d(config.norm, out_channels)
        self.mlp = nn.Sequential()
        self.mlp.fc1 = nn.Conv2d(out_channels, out_channels * config.expand_ratio, 1)
        self.mlp.act = ACTIVATIONS[config.activation]()
        self.mlp.fc2 = nn.Conv2d(out_channels * config.expand_ratio, out_channels, 1)
        scaled = config.layer_scale is not None
        self.ls1 = LayerScale2d(out_channels, config.layer_scale) if scaled else nn.Identity()
        self.ls2 = LayerScale2d(out_channels, config.layer_scale) if scaled else nn.Identity()
        self.drop_path = DropPath(drop_path)

    def forward(self, features_BCHW: torch.Tensor) -> torch.Tensor:
        attended = self.ls1(self.attn(self.norm1(features_BCHW)))
        features = self.shortcut(features_BCHW) + self.drop_path(attended)
        return features + self.drop_path(self.ls2(self.mlp(self.norm2(features))))
