"""CoAtNet: convolution stages, then relative attention (Dai et al. 2021, arXiv 2106.04803).

Parameter names and block details are timm's, so that its weights load without renaming (`retrieval.timm_weights`).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from numbers import Integral, Real
from typing import Any, get_origin

import torch
from torch import nn

from retrieval.errors import UsageError
from retrieval.layers.attention import TransformerBlock, TransformerConfig
from retrieval.layers.mbconv import MBConv, MBConvConfig
from retrieval.layers.norm import norm2d
from retrieval.layers.stem import Conv16Stem, ConvStem, PatchStem
from retrieval.nearest_name import did_you_mean


@dataclass(frozen=True, kw_only=True)
class CoAtNetConfig:
    """The shape of a CoAtNet.

    `layout` names the blocks of each stage, C for MBConv and T for transformer; `depths`, `channels` and `strides` (1
    or 2) have one entry a stage. `stem`: `"conv"` (two 3×3 convolutions, stride 2), or, of stride 16, `"conv16"` and
    `"patch"`. `image_size`: the size in pixels that the bias tables are made for; others work too. `head_hidden`: width
    of a hidden layer in the classification head; with one the feature map carries no final norm, as in the paper.
    Raises `UsageError` for what is no network.
    """

    channels: tuple[int, ...]
    depths: tuple[int, ...]
    layout: str = "CCTT"
    strides: tuple[int, ...] = ()
    stem: str = "conv"
    stem_channels: tuple[int, int] = (64, 64)
    image_size: int = 224
    head_hidden: int | None = None
    num_classes: int = 0
    drop_path: float = 0.0
    conv: MBConvConfig = field(default_factory=MBConvConfig)
    transformer: TransformerConfig = field(default_factory=TransformerConfig)

    def __post_init__(self):
        for each in fields(self):
            if not _is_of(each.type, value := getattr(self, each.name)):
                kind = each.type if get_origin(each.type) else each.type.__name__
                raise UsageError(f"expected {each.name} as {kind}, got {value!r}")
        if not self.strides:
            # The attention-only form has done all its downsampling in the stem.
            object.__setattr__(self, "strides", (2 if self.stem == "conv" else 1,) * len(self.channels))
        if self.stem not in ("conv", "conv16", "patch"):
            raise UsageError(f"expected stem 'conv', 'conv16' or 'patch', got {self.stem!r}")
        if not self.layout or set(self.layout) - set("CT"):
            raise UsageError(f"expected a layout of C and T such as 'CCTT', got {self.layout!r}")
        lengths = {len(self.layout), len(self.channels), len(self.depths), len(self.strides)}
        if len(lengths) != 1:
            raise UsageError(
                f"expected layout, channels, depths and strides of one length, got {self.layout!r}, {self.channels}, "
                f"{self.depths}, {self.strides}"
            )
        if min(self.depths) < 1:
            raise UsageError(f"expected depths of at least one block a stage, got {self.depths}")
        if set(self.strides) - {1, 2}:
            raise UsageError(f"expected strides of 1 or 2, got {self.strides}")
        if not 0 <= self.drop_path < 1:
            raise UsageError(f"expected drop_path of at least 0 and below 1, got {self.drop_path}")
        if self.num_classes < 0:
            raise UsageError(f"expected num_classes of 0 or more, got {self.num_classes}")
        widths = (self.stem_channels[1], *self.channels)
        if list(widths) != sorted(widths):
            raise UsageError(f"expected channels that never shrink, got {self.channels} after a stem of {widths[0]}")
        narrow = sorted(width for width in self._attended_widths() if width % self.head_dim)
        if narrow:
            raise UsageError(f"expected transformer channels that {self.head_dim} divides (head_dim), got {narrow}")
        check_size((self.image_size, self.image_size), self.stride)

    @property
    def head_dim(self) -> int:
        return self.transformer.head_dim

    @property
    def stride(self) -> int:
        """Pixels of the input per location of the feature map."""
        stride = 2 if self.stem == "conv" else 16
        for factor in self.strides:
            stride *= factor
        return stride

    def _attended_widths(self) -> set[int]:
        """The channels that the transformer blocks divide into heads."""
        widths, before = set(), self.stem_channels[1]
        for kind, depth, channels in zip(self.layout, self.depths, self.channels, strict=True):
            if kind == "T":
                # Only the first block of a stage grows, in the map that makes the heads or in the one after them.
                widths |= {before if self.transformer.widen_in == "proj" else channels, *[channels] * (depth > 1)}
            before = channels
        return widths

    def to_dict(self) -> dict:
        """Plain values, for config.json; `from_dict` reads them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> "CoAtNetConfig":
        plain = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
        plain["conv"] = MBConvConfig(**values["conv"])
        plain["transformer"] = TransformerConfig(**values["transformer"])
        return cls(**plain)


def _is_of(kind: Any, value: object) -> bool:
    """Whether a value is of a field's type; lists are tuples too, and numpy's numbers are numbers."""
    if get_origin(kind) is tuple:
        return isinstance(value, tuple | list) and all(isinstance(each, Integral) for each in value)
    return isinstance(value, {int: Integral, float: Real}.get(kind, kind))


def check_size(size: Sequence[int], stride: int) -> None:
    """Raise `UsageError` unless the stride divides both sides of an input."""
    if any(side <= 0 or side % stride for side in size):
        nearest = [max(stride, round(side / stride) * stride) for side in size]
        raise UsageError(
            f"expected an input whose sides are multiples of {stride}, got {size[0]}×{size[1]}; "
            f"the nearest is {nearest[0]}×{nearest[1]}"
        )


class Stage(nn.Module):
    """Blocks of one kind; the first changes resolution and channels."""

    def __init__(
        self,
        kind: str,
        in_channels: int,
        out_channels: int,
        *,
        stride: int,
        size: tuple[int, int],
        drop_paths: Sequence[float],
        config: CoAtNetConfig,
    ):
        super().__init__()
        blocks = []
        for i, drop_path in enumerate(drop_paths):
            first = i == 0
            shape = (in_channels if first else out_channels, out_channels)
            shared = {"stride": stride if first else 1, "drop_path": drop_path}
            if kind == "C":
                blocks.append(MBConv(*shape, config=config.conv, **shared))
            else:
                blocks.append(TransformerBlock(*shape, size=size, config=config.transformer, **shared))
        self.blocks = nn.Sequential(*blocks)

    def forward(self, features_BCHW: torch.Tensor) -> torch.Tensor:
        return self.blocks(features_BCHW)


class ClassificationHead(nn.Module):
    """Global average pool, norm and hidden layer where the network has them, one linear map to the classes."""

    def __init__(self, config: CoAtNetConfig):
        super().__init__()
        channels = config.channels[-1]
        self.norm = nn.LayerNorm(channels, eps=1e-6) if config.head_hidden else nn.Identity()
        self.pre_logits = nn.Sequential()
        if config.head_hidden:
            self.pre_logits.fc = nn.Linear(channels, config.head_hidden)
            self.pre_logits.act = nn.Tanh()
        self.fc = nn.Linear(config.head_hidden or channels, config.num_classes) if config.num_classes else None

    def forward(self, features_BCHW: torch.Tensor) -> torch.Tensor:
        if self.fc is None:
            raise UsageError("expected a CoAtNet with classes, got num_classes=0; create it with num_classes=N")
        return self.fc(self.pre_logits(self.norm(features_BCHW.mean((2, 3)))))


class CoAtNet(nn.Module):
    """Pixels (B, 3, H, W), about zero mean and unit range, to a feature map (B, C, H/stride, W/stride).

    Any H and W that the stride divides. `classify` gives logits (B, num_classes) instead. Raises `UsageError` on
    other sizes.
    """

    def __init__(self, config: CoAtNetConfig):
        super().__init__()
        self.config = config
        self.num_channels = config.channels[-1]
        self.stride = config.stride
        activation = config.conv.activation
        if config.stem == "conv":
            self.stem = ConvStem(config.stem_channels, activation)
        elif config.stem == "conv16":
            self.stem = Conv16Stem(config.stem_channels, activation)
        else:
            self.stem = PatchStem(config.stem_channels[1])
        side = config.image_size // self.stem.stride
        in_channels = config.stem_channels[1]
        drop_paths = torch.linspace(0, config.drop_path, sum(config.depths), device="cpu").split(list(config.depths))
        stages = []
        for kind, channels, stride, rates in zip(
            config.layout, config.channels, config.strides, drop_paths, strict=True
        ):
            side //= stride
            stages.append(
                Stage(
                    kind,
                    in_channels,
                    channels,
                    stride=stride,
                    size=(side, side),
                    drop_paths=rates.tolist(),
                    config=config,
                )
            )
            in_channels = channels
        self.stages = nn.Sequential(*stages)
        self.norm = nn.Identity() if config.head_hidden else norm2d(config.transformer.norm, self.num_channels)
        self.head = ClassificationHead(config)
        self.apply(_initialise)

    def forward(self, pixels_B3HW: torch.Tensor) -> torch.Tensor:
        return self.stage_maps(pixels_B3HW)[-1]

    def stage_maps(self, pixels_B3HW: torch.Tensor) -> list[torch.Tensor]:
        """The map of every stage, S1 first, each (B, C, h, w) of its own shape; the last is what `forward` gives."""
        check_size(pixels_B3HW.shape[-2:], self.stride)
        features_BCHW = self.stem(pixels_B3HW)
        maps = []
        for stage in self.stages:
            features_BCHW = stage(features_BCHW)
            maps.append(features_BCHW)
        return [*maps[:-1], self.norm(features_BCHW)]

    def classify(self, pixels_B3HW: torch.Tensor) -> torch.Tensor:
        """Logits (B, num_classes) by global average pooling and a linear map, for pre-training."""
        return self.head(self(pixels_B3HW))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out")
        if module.kernel_size == (1, 1):
            nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


_PAPER = {
    "coatnet_0": ((96, 192, 384, 768), (2, 3, 5, 2), 64),
    "coatnet_1": ((96, 192, 384, 768), (2, 6, 14, 2), 64),
    "coatnet_2": ((128, 256, 512, 1024), (2, 6, 14, 2), 128),
    "coatnet_3": ((192, 384, 768, 1536), (2, 6, 14, 2), 192),
    "coatnet_4": ((192, 384, 768, 1536), (2, 12, 28, 2), 192),
    "coatnet_5": ((256, 512, 1280, 2048), (2, 12, 28, 2), 192),
}
_SMALL_BLOCKS = {"conv": MBConvConfig(activation="silu", stride_in="pool"), "transformer": TransformerConfig()}
_MIXED_S3 = {"layout": "CCCTT", "strides": (2, 2, 2, 1, 2), "transformer": TransformerConfig(head_dim=128)}

CONFIGS: dict[str, CoAtNetConfig] = {
    # For CPUs and inputs of 64 to 128 pixels; the last stage keeps the resolution, so that attention has a map to show.
    "coatnet_micro": CoAtNetConfig(
        channels=(32, 64, 128, 256), depths=(1, 2, 3, 1), strides=(2, 2, 2, 1), stem_channels=(16, 32), image_size=64,
        **_SMALL_BLOCKS,
    ),
    "coatnet_mini": CoAtNetConfig(
        channels=(48, 96, 192, 512), depths=(2, 2, 4, 1), strides=(2, 2, 2, 1), stem_channels=(32, 48), image_size=64,
        **_SMALL_BLOCKS,
    ),
    **{
        name: CoAtNetConfig(channels=channels, depths=depths, stem_channels=(stem, stem), head_hidden=channels[-1])
        for name, (channels, depths, stem) in _PAPER.items()
    },
    # The two largest mix both kinds of block in S3: MBConv first, then attention at the same resolution.
    "coatnet_6": CoAtNetConfig(
        channels=(192, 384, 768, 1536, 2048), depths=(2, 4, 8, 42, 2), stem_channels=(192, 192), head_hidden=2048,
        **_MIXED_S3,
    ),
    "coatnet_7": CoAtNetConfig(
        channels=(256, 512, 1024, 2048, 3072), depths=(2, 4, 8, 42, 2), stem_channels=(192, 192), head_hidden=3072,
        **_MIXED_S3,
    ),
    # ViT-REL: all downsampling in the stem, relative attention alone after it.
    "vit_rel_small": CoAtNetConfig(channels=(384,), depths=(12,), layout="T", stem="conv16", stem_channels=(96, 384)),
    "vit_rel_base": CoAtNetConfig(channels=(768,), depths=(12,), layout="T", stem="conv16", stem_channels=(192, 768)),
}  # fmt: skip
"""Every network that `create` knows by name."""


def create(name: str, **overrides) -> CoAtNet:
    """Build a CoAtNet by name: pixels (B, 3, H, W) → features (B, C, h, w), fresh and in train mode.

    `overrides` are fields of `CoAtNetConfig`; `attention="post"` is short for that field of the transformer blocks.
    Raises `UsageError` for unknown names and fields.
    """
    if name not in CONFIGS:
        raise UsageError(f"expected one of {', '.join(sorted(CONFIGS))}, got {name!r}{did_you_mean(name, CONFIGS)}")
    config = CONFIGS[name]
    known = [*(each.name for each in fields(config)), "attention"]
    if unknown := sorted(overrides.keys() - set(known)):
        raise UsageError(f"expected fields of CoAtNetConfig, got {unknown}{did_you_mean(unknown[0], known)}")
    own = {key: value for key, value in overrides.items() if key != "attention"}
    if "stem" in own or "layout" in own and len(str(own["layout"])) != len(config.layout):
        own.setdefault("strides", ())  # those worked out for another form of the network do not hold
    config = replace(config, **own)
    if "attention" in overrides:
        config = replace(config, transformer=replace(config.transformer, attention=overrides["attention"]))
    return CoAtNet(config)
