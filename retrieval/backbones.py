"""Backbones as a user names them: `coatnet_mini`, fresh, or `timm:coatnet_rmlp_2_rw_224` with weights of timm's."""

from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

import torch

from retrieval import timm_weights
from retrieval.coatnet import CONFIGS, CoAtNet
from retrieval.errors import UsageError
from retrieval.nearest_name import did_you_mean

TIMM = "timm:"

# timm's CoAtNets read pixels in −1..1 as we do, but for one, which takes ImageNet's mean and deviation (of 0..1).
_PIXELS = {"coatnet_bn_0_rw_224": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))}


def load_backbone(spec: str, weights: str | Path | None = None, image_size: int | None = None) -> CoAtNet:
    """The CoAtNet that `spec` names, without a classifier: pixels (B, 3, H, W) in −1..1 → features (B, C, h, w).

    `spec`: a name of `coatnet.CONFIGS`, fresh where there are no `weights`, or `timm:NAME`, which needs them.
    `weights`: a .safetensors file with the state dict, or `"hf-hub:owner/model"`. `image_size`: the side in pixels that
    bias tables are made or resized for; the backbone's own when left out. Raises `UsageError` for a name that is not
    known and for `timm:` without weights, `WeightsError` for weights that are not there or do not fit.
    """
    name = spec.removeprefix(TIMM).split(".")[0]
    known = timm_weights.CONFIGS if spec.startswith(TIMM) else CONFIGS
    if name not in known:
        raise UsageError(_unknown(spec))
    config = known[name]
    if weights is not None:
        network = timm_weights.with_weights(config, weights, image_size)
        if spec.startswith(TIMM) and name in _PIXELS:
            _take_our_pixels(network, *_PIXELS[name])
        return _without_classifier(network)
    if spec.startswith(TIMM):
        raise UsageError(f"expected weights for {spec}, got none; give them as a local .safetensors file")
    return CoAtNet(replace(config, image_size=image_size or config.image_size))


def _unknown(spec: str) -> str:
    specs = [*CONFIGS, *(TIMM + name for name in timm_weights.CONFIGS)]
    if TIMM + spec in specs:
        return f"expected a backbone's name, got {spec!r}; timm's go by {TIMM + spec!r}"
    near = get_close_matches(spec, specs, n=3, cutoff=0.5)
    return f"expected a backbone such as {', '.join(near or sorted(specs))}, got {spec!r}{did_you_mean(spec, specs)}"


def _without_classifier(network: CoAtNet) -> CoAtNet:
    network.head.fc = None
    network.config = replace(network.config, num_classes=0)
    return network


@torch.no_grad()
def _take_our_pixels(network: CoAtNet, mean: tuple[float, ...], deviation: tuple[float, ...]) -> None:
    """Fold (pixel − mean) / deviation into the stem, in place, so that it takes pixels in −1..1 instead.

    Exact but for the outermost ring of the stem's map, whose padding now stands for grey and not for `mean`.
    """
    scale_3 = 0.5 / torch.tensor(deviation)
    shift_3 = (0.5 - torch.tensor(mean)) / torch.tensor(deviation)
    # The stem's first convolution has no bias: what the shift adds to its output, the norm after it takes away.
    network.stem.norm1.running_mean -= network.stem.conv1.weight.sum((2, 3)) @ shift_3
    network.stem.conv1.weight *= scale_3[:, None, None]
