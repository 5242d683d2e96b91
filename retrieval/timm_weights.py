"""Pretrained CoAtNets of timm, without timm: weights that a user brings, loaded into `retrieval.coatnet`.

    network = load("coatnet_rmlp_2_rw_224", "coatnet_rmlp_2_rw_224.safetensors")   # a local file
    network = load("coatnet_0_rw_224", "hf-hub:timm/coatnet_0_rw_224.sw_in1k")     # from the hub, with the extra [hub]

The variants differ in depth, in which convolution takes the stride, in norms and activations, and in how the relative
bias is stored (Wightman, pytorch-image-models; names and shapes as of timm 1.0).
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from retrieval.coatnet import CONFIGS as PAPER_CONFIGS
from retrieval.coatnet import CoAtNet, CoAtNetConfig
from retrieval.errors import MissingExtraError, UsageError, WeightsError
from retrieval.layers.attention import TransformerConfig
from retrieval.layers.mbconv import MBConvConfig
from retrieval.layers.relative_bias import resize_table
from retrieval.nearest_name import did_you_mean
from retrieval.undrawn import Undrawn

# "rw" models were trained before the paper's code was public: inputs expanded, SiLU, channels grown in the output map.
_RW_CONV = MBConvConfig(
    expand_from="input", activation="silu", pre_norm_activation=True, output_bias=False, se_activation="relu"
)
_RW_ATTENTION = TransformerConfig(widen_in="proj")
_NANO_CONV = replace(_RW_CONV, pre_norm_activation=False, output_bias=True, se_activation="silu")
_EARLY = replace(_RW_CONV, se_before_norm=True)
_SILU = replace(_RW_CONV, se_activation="silu")
_NO_SHORTCUT_BIAS = replace(_RW_ATTENTION, shortcut_bias=False)


def _rw(
    channels: tuple[int, ...], depths: tuple[int, ...], stem: tuple[int, int], conv: MBConvConfig, **changes
) -> CoAtNetConfig:
    attention = changes.pop("attention", _RW_ATTENTION)
    return CoAtNetConfig(
        channels=channels, depths=depths, stem_channels=stem, conv=conv, transformer=replace(attention, **changes)
    )


_NANO = ((64, 128, 256, 512), (3, 4, 6, 3), (32, 64))
_0 = ((96, 192, 384, 768), (2, 3, 7, 2), (32, 64))
_1 = ((96, 192, 384, 768), (2, 6, 14, 2), (32, 64))
_2 = ((128, 256, 512, 1024), (2, 6, 14, 2), (64, 128))
_3 = ((192, 384, 768, 1536), (2, 6, 14, 2), (96, 192))

CONFIGS: dict[str, CoAtNetConfig] = {
    **{f"coatnet_{size}_224": PAPER_CONFIGS[f"coatnet_{size}"] for size in range(6)},
    "coatnet_nano_rw_224": _rw(*_NANO, replace(_NANO_CONV, stride_in="pool")),
    "coatnet_0_rw_224": _rw(*_0, replace(_EARLY, stride_in="pool"), attention=_NO_SHORTCUT_BIAS),
    "coatnet_1_rw_224": _rw(*_1, _EARLY, attention=_NO_SHORTCUT_BIAS),
    "coatnet_2_rw_224": _rw(*_2, _SILU),
    "coatnet_3_rw_224": _rw(*_3, _SILU, layer_scale=1e-6),
    "coatnet_bn_0_rw_224": _rw(*_0, _EARLY, attention=_NO_SHORTCUT_BIAS, norm="batch"),
    "coatnet_rmlp_nano_rw_224": _rw(*_NANO, _NANO_CONV, bias="mlp", bias_hidden=384),
    "coatnet_rmlp_0_rw_224": _rw(*_0, _RW_CONV, bias="mlp"),
    "coatnet_rmlp_1_rw_224": _rw(
        *_1,
        replace(_EARLY, pool="max", stride_in="pool"),
        attention=_NO_SHORTCUT_BIAS,
        pool="max",
        bias="mlp",
        bias_hidden=384,
    ),
    "coatnet_rmlp_1_rw2_224": _rw(*_1, _RW_CONV, bias="mlp"),
    "coatnet_rmlp_2_rw_224": _rw(*_2, _SILU, layer_scale=1e-6, bias="mlp"),
    "coatnet_rmlp_2_rw_384": replace(_rw(*_2, _SILU, layer_scale=1e-6, bias="mlp"), image_size=384),
    "coatnet_rmlp_3_rw_224": _rw(*_3, _SILU, layer_scale=1e-6, bias="mlp"),
}
"""timm's models by name, without the tag of their training recipe."""


def load(
    name: str, state_dict_or_path: Mapping[str, torch.Tensor] | str | Path, image_size: int | None = None
) -> CoAtNet:
    """Build timm's model `name` with its weights: pixels (B, 3, H, W) → features (B, C, H/32, W/32), in eval mode.

    `state_dict_or_path`: timm's state dict, a local .safetensors file, or `"hf-hub:owner/model"`. `image_size`: the
    input size that bias tables are resized for, bilinearly; the model's own when left out. The classifier is built
    where its weights are there. Pixels are as timm's model takes them, in −1..1, but for `coatnet_bn_0_rw_224`: less
    ImageNet's mean, over its deviation (`retrieval.backbones.load_backbone` takes −1..1 for every model). Raises
    `WeightsError` for missing, unknown or misshapen entries, `UsageError` for a name that is not in `CONFIGS`.
    """
    base = name.split(".")[0]
    if base not in CONFIGS:
        meant = did_you_mean(base, CONFIGS)
        raise UsageError(f"expected a timm model among {', '.join(sorted(CONFIGS))}, got {name!r}{meant}")
    return with_weights(CONFIGS[base], state_dict_or_path, image_size)


def with_weights(
    config: CoAtNetConfig, state_dict_or_path: Mapping[str, torch.Tensor] | str | Path, image_size: int | None = None
) -> CoAtNet:
    """`load` for a CoAtNet of any shape, whose state dict has the names that ours and timm's share."""
    state = dict(_read(state_dict_or_path))
    num_classes = len(state["head.fc.weight"]) if "head.fc.weight" in state else 0
    with Undrawn():
        network = CoAtNet(replace(config, image_size=image_size or config.image_size, num_classes=num_classes))
    _fit_tables(state, network)
    _check(state, network)
    network.load_state_dict(state, strict=False)
    return network.eval()


def _read(source: Mapping[str, torch.Tensor] | str | Path) -> Mapping[str, torch.Tensor]:
    if isinstance(source, Mapping):
        return source
    path = _download(str(source)) if str(source).startswith("hf-hub:") else Path(source)
    if path.suffix != ".safetensors" or not path.is_file():
        raise WeightsError(f"expected a .safetensors file or 'hf-hub:owner/model', got {source}")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise WeightsError(f"expected whole safetensors in {path}, got a file that does not parse: {error}") from None


def _download(source: str) -> Path:
    try:
        from huggingface_hub import hf_hub_download
    except ImportError:
        raise MissingExtraError(
            f"expected huggingface-hub for {source!r}; pip install 'spyglass-image-search[hub]', or bring a local file"
        ) from None
    try:
        return Path(hf_hub_download(source.removeprefix("hf-hub:"), "model.safetensors"))
    except Exception as error:  # the hub's client raises its own, the network's and the disk's errors alike
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(
            f"expected to download {source!r}, got: {reason}; bring a local .safetensors file"
        ) from error


def _fit_tables(state: dict[str, torch.Tensor], network: CoAtNet) -> None:
    """Resize the bias tables that were made for another input size, and drop what we compute ourselves."""
    for key in [
        key for key in state if key.endswith(("relative_position_index", "rel_coords_log", "relative_coords_table"))
    ]:
        del state[key]
    for key, parameter in network.named_parameters():
        if not key.endswith("relative_position_bias_table") or key not in state or len(state[key]) == len(parameter):
            continue
        made_for, wanted = _grid_side(len(state[key]), key), _grid_side(len(parameter), key)
        state[key] = resize_table(state[key], (made_for, made_for), (wanted, wanted))


def _grid_side(num_offsets: int, key: str) -> int:
    side = round(num_offsets**0.5)
    if side * side != num_offsets or side % 2 == 0:
        raise WeightsError(f"expected a table of (2s−1)² offsets in {key}, got {num_offsets}")
    return (side + 1) // 2


def _check(state: Mapping[str, torch.Tensor], network: CoAtNet) -> None:
    wanted = {key: value for key, value in network.state_dict().items() if not key.endswith("num_batches_tracked")}
    missing = sorted(wanted.keys() - state.keys())
    unknown = sorted(key for key in state.keys() - wanted.keys() if not key.endswith("num_batches_tracked"))
    if missing or unknown:
        raise WeightsError(
            f"expected the entries of a CoAtNet of this name, got a state dict that lacks {missing[:3] or 'none'} and "
            f"adds {unknown[:3] or 'none'} ({len(missing)} and {len(unknown)} in all)"
        )
    for key, value in wanted.items():
        if state[key].shape != value.shape:
            raise WeightsError(f"expected {key} of shape {tuple(value.shape)}, got {tuple(state[key].shape)}")
