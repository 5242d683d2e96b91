"""The network of the embedder: backbone, attention pooling, nested projection, what says how long to cut, tokens."""

from dataclasses import asdict, dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from retrieval import pooling
from retrieval.coatnet import CONFIGS, CoAtNet, CoAtNetConfig
from retrieval.device import full_precision
from retrieval.dimension import DimensionPredictor
from retrieval.energy_dimension import EnergyDimension
from retrieval.errors import UsageError
from retrieval.nested_projection import NestedProjection
from retrieval.stage_statistics import StageStatistics, check_stages
from retrieval.tokens import LocalTokens


@dataclass(frozen=True, kw_only=True)
class EmbedderConfig:
    """The shape of an embedder, as stored in config.json.

    `image_size`: side in pixels of the squares it reads. `widths`: the lengths that buckets have; the last is the
    length of an uncut embedding. `dimension`: what predicts `d`, `"learned"` from the pooled vector or `"energy"` from
    the embedding; `min_dim`, `max_dim`: its ends; `bent_lengths`: whether a learned one has a `Bend`.
    `projection_hidden`: width of the net that corrects the projection (`NestedProjection`), 0 for a linear one.
    `statistics_of`: stages before the last, 1 for S1, whose channel statistics join the pooled vector
    (`StageStatistics`).
    """

    backbone: CoAtNetConfig = field(default_factory=lambda: CONFIGS["coatnet_mini"])
    pooling: str = "sigmoid"
    image_size: int = 96
    widths: tuple[int, ...] = (32, 64, 128, 256, 512)
    min_dim: int = 32
    max_dim: int = 512
    dimension: str = "learned"
    token_dim: int = 0
    projection_hidden: int = 0
    statistics_of: tuple[int, ...] = ()
    bent_lengths: bool = False

    def __post_init__(self):
        if list(self.widths) != sorted(set(self.widths)) or not self.widths or self.widths[0] < 1:
            raise UsageError(f"expected widths that grow, got {self.widths}")
        if not 1 <= self.min_dim < self.max_dim <= self.widths[-1]:
            raise UsageError(
                f"expected 1 ≤ min_dim < max_dim ≤ {self.widths[-1]}, the last width, "
                f"got {self.min_dim}, {self.max_dim}"
            )
        if self.dimension not in ("learned", "energy"):
            raise UsageError(f"expected a dimension 'learned' or 'energy', got {self.dimension!r}")
        if self.bent_lengths and self.dimension != "learned":
            raise UsageError(f"expected a dimension 'learned' where lengths are bent, got {self.dimension!r}")
        if self.token_dim < 0:
            raise UsageError(f"expected a token_dim of 0 (no tokens) or more, got {self.token_dim}")
        if self.projection_hidden < 0:
            raise UsageError(f"expected a projection_hidden of 0 (linear) or more, got {self.projection_hidden}")
        check_stages(self.statistics_of)
        last = len(self.backbone.channels)
        if max(self.statistics_of, default=0) >= last:
            raise UsageError(
                f"expected statistics_of stages before S{last}, the last, which is pooled, got {self.statistics_of}"
            )
        if self.image_size <= 0 or self.image_size % self.backbone.stride:
            raise UsageError(f"expected an image_size that {self.backbone.stride} divides, got {self.image_size}")

    @property
    def num_dims(self) -> int:
        """Length of an uncut embedding."""
        return self.widths[-1]

    @property
    def num_pooled(self) -> int:
        """Length of the pooled vector: the last map's channels, and two numbers for each of `statistics_channels`."""
        return self.backbone.channels[-1] + 2 * sum(self.statistics_channels)

    @property
    def statistics_channels(self) -> list[int]:
        """Channels of the stages whose statistics join the pooled vector."""
        return [self.backbone.channels[stage - 1] for stage in self.statistics_of]

    def to_dict(self) -> dict:
        """Plain values, for config.json; `from_dict` reads them back."""
        values = asdict(self)
        if self.dimension == "learned":
            del values["dimension"]  # weights from before there was a choice keep their fingerprint
        if not self.token_dim:
            del values["token_dim"]
        if not self.projection_hidden:
            del values["projection_hidden"]
        if not self.statistics_of:
            del values["statistics_of"]
        if not self.bent_lengths:
            del values["bent_lengths"]
        return values

    @classmethod
    def from_dict(cls, values: dict) -> "EmbedderConfig":
        plain = dict(values, backbone=CoAtNetConfig.from_dict(values["backbone"]), widths=tuple(values["widths"]))
        plain["statistics_of"] = tuple(values.get("statistics_of", ()))
        return cls(**plain)


class NetworkOutput(NamedTuple):
    """`pooled` (B, P); `full` (B, D) unit length, uncut; `dims` (B,) real numbers; `attention` (B, h, w), sums to 1.

    `tokens` (B, h·w, token_dim) unit length, one a location, or None for a network without.
    """

    pooled: torch.Tensor
    full: torch.Tensor
    dims: torch.Tensor
    attention: torch.Tensor
    tokens: torch.Tensor | None


class PooledFeatures(NamedTuple):
    """The last map's `features` (B, C, h, w); `pooled` (B, P), P = `num_pooled`; `attention` (B, h, w), sums to 1."""

    features: torch.Tensor
    pooled: torch.Tensor
    attention: torch.Tensor


class EmbedderNetwork(nn.Module):
    """Pixels (B, 3, H, W) in −1..1 to a `NetworkOutput`; around a `backbone` of the config's shape, or a fresh one."""

    def __init__(self, config: EmbedderConfig, backbone: CoAtNet | None = None):
        super().__init__()
        if backbone is not None and backbone.config != config.backbone:
            raise UsageError("expected a backbone of the shape that the config names, got another")
        self.config = config
        self.backbone = CoAtNet(config.backbone) if backbone is None else backbone
        channels = self.backbone.num_channels
        self.pooling = pooling.create(config.pooling, channels)
        self.statistics = StageStatistics(config.statistics_channels) if config.statistics_of else None
        self.projection = (
            NestedProjection(config.num_pooled, config.num_dims, num_hidden=config.projection_hidden)
            if config.projection_hidden
            else nn.Linear(config.num_pooled, config.num_dims)
        )
        ends = {"min_dim": config.min_dim, "max_dim": config.max_dim}
        self.dimension = (
            EnergyDimension(**ends)
            if config.dimension == "energy"
            else DimensionPredictor(config.num_pooled, **ends, bent=config.bent_lengths)
        )
        self.tokens = LocalTokens(channels, config.token_dim) if config.token_dim else None

    def forward(self, pixels_B3HW: torch.Tensor) -> NetworkOutput:
        features_BCHW, pooled_BP, attention_BHW = self.pool(pixels_B3HW)
        with torch.autocast(pixels_B3HW.device.type, enabled=False):
            full_BD = F.normalize(self.projection(pooled_BP), dim=-1)
            dims_B = self.dimension(full_BD if self.config.dimension == "energy" else pooled_BP)
            tokens_BND = None if self.tokens is None else self.tokens(features_BCHW)
            return NetworkOutput(pooled_BP, full_BD, dims_B, attention_BHW, tokens_BND)

    def pool(self, pixels_B3HW: torch.Tensor) -> PooledFeatures:
        """What comes before projection, in full precision."""
        *stages, features_BCHW = self.backbone.stage_maps(pixels_B3HW)
        # What follows the backbone is small: in full precision it costs nothing, and scores keep their last digits.
        with torch.autocast(pixels_B3HW.device.type, enabled=False):
            features_BCHW = full_precision(features_BCHW)
            pooled_BP, attention_BHW = self.pooling(features_BCHW)
            if self.statistics is not None:
                described = [stages[stage - 1] for stage in self.config.statistics_of]
                pooled_BP = torch.cat([pooled_BP, self.statistics(described, attention_BHW)], 1)
            return PooledFeatures(features_BCHW, pooled_BP, attention_BHW)


def scale_pixels(pixels_BHW3: torch.Tensor) -> torch.Tensor:
    """uint8 pixels (B, H, W, 3) to float32 (B, 3, H, W) in −1..1, channels last in memory."""
    return pixels_BHW3.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
