"""A head without training: the projection by principal axes and `d` by energy, fitted in one pass over pictures.

network = network_around(load_backbone("timm:coatnet_nano_rw_224", "model.safetensors"), image_size=224)
report = fit_head(network, batches_of_pixels, HeadConfig(budget=128))
Embedder(network).save("my-model")
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from retrieval.coatnet import CoAtNet
from retrieval.energy_dimension import check_budget, fit_share
from retrieval.errors import UsageError
from retrieval.network import EmbedderConfig, EmbedderNetwork, scale_pixels
from retrieval.pooled_vectors import inferred_batches
from retrieval.projection import fit_projection
from retrieval.training.fit_tokens import fit_tokens

_BLOCK = 8192
_TOKEN_DIM = 64
_LOCATIONS_PER_IMAGE = 8
_NUM_LOCAL = 65_536
"""So many locations say what the tokens' axes are: those of the pictures that come first."""


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """How to fit a head: `whitening` as in `fit_projection`, 0 to 1; `budget`, the mean of `d` over the pictures."""

    whitening: float = 0.5
    budget: float = 128.0

    def __post_init__(self):
        if not 0 <= self.whitening <= 1:
            raise UsageError(f"expected a whitening within 0 (plain axes) to 1 (full), got {self.whitening:g}")

    def to_dict(self) -> dict:
        """Plain values, for config.json."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class HeadReport:
    """What a fit found.

    `num_axes`: numbers of the embedding that carry anything. `share`: of the energy, kept by each image between the
    ends of `d`; `energy_kept`: the mean of what is kept. `variance_axes`: how many principal axes of the pooled vectors
    hold 50, 90 and 99 % of their variance.
    """

    num_images: int
    num_pooled: int
    num_axes: int
    mean_dim: float
    std_dim: float
    share: float
    energy_kept: float
    variance_axes: dict[str, int]

    def to_dict(self) -> dict:
        """Plain values, for config.json."""
        return asdict(self)


def network_around(backbone: CoAtNet, *, pooling: str = "mean", image_size: int | None = None) -> EmbedderNetwork:
    """An embedder around a backbone, with a fresh pooling and a head still to be fitted; `d` by energy."""
    config = EmbedderConfig(
        backbone=backbone.config,
        pooling=pooling,
        image_size=image_size or backbone.config.image_size,
        dimension="energy",
        token_dim=min(_TOKEN_DIM, backbone.num_channels),
    )
    return EmbedderNetwork(config, backbone).eval()


def with_energy_head(network: EmbedderNetwork, *, image_size: int | None = None) -> EmbedderNetwork:
    """An embedder with all below the head of `network`, shared, and a head still to be fitted; `d` by energy."""
    config = replace(
        network.config,
        dimension="energy",
        bent_lengths=False,
        projection_hidden=0,
        image_size=image_size or network.config.image_size,
        token_dim=min(_TOKEN_DIM, network.backbone.num_channels),
    )
    headless = EmbedderNetwork(config, network.backbone)
    headless.pooling, headless.statistics = network.pooling, network.statistics
    return headless.eval()


@torch.no_grad()
def fit_head(network: EmbedderNetwork, batches: Iterable[np.ndarray], config: HeadConfig) -> HeadReport:
    """Fit projection, tokens and share of a network whose `dimension` is `"energy"`, in place; it ends on the CPU.

    `batches`: uint8 pixels (B, S, S, 3), gone through once; N pooled vectors (N, P) float32 are held. All weights are
    rounded to float16 first, so that `Embedder.save` changes nothing. N pictures span N − 1 axes: numbers beyond are
    zero. Raises `UsageError` for fewer than 2 pictures, equal ones, and a budget outside [`min_dim`, `max_dim`].
    """
    if network.config.dimension != "energy":
        raise UsageError(f"expected a network whose dimension is 'energy', got {network.config.dimension!r}")
    check_budget(network.dimension, config.budget)
    _round_to_half(network)
    scaled = (scale_pixels(torch.from_numpy(pixels_BSS3)) for pixels_BSS3 in batches)
    pooled, local = [], []
    num_pooled, num_channels = network.config.num_pooled, network.backbone.num_channels
    for seen_BX in inferred_batches(network, scaled, _pooled_and_local):
        pooled.append(seen_BX[:, :num_pooled].clone())
        if sum(map(len, local)) < _NUM_LOCAL:
            local.append(seen_BX[:, num_pooled:].reshape(-1, num_channels))
    num_images = sum(map(len, pooled))
    if num_images < 2:
        raise UsageError(f"expected at least 2 pictures to fit a head to, got {num_images}")
    pooled_NC = torch.cat(pooled)
    del pooled
    if not pooled_NC.isfinite().all():
        raise UsageError("expected finite features, got NaN or infinity; the backbone's weights do not work in float16")
    network.cpu()
    variances_C = fit_projection(network.projection, pooled_NC, whitening=config.whitening)
    _settle(network.projection, pooled_NC.mean(0, dtype=torch.float64))
    if network.tokens is not None:
        local_MC = torch.cat(local)
        fit_tokens(network.tokens, local_MC)
        _settle(network.tokens.projection, local_MC.mean(0, dtype=torch.float64))
    full_ND = torch.cat([F.normalize(network.projection(block), dim=-1) for block in pooled_NC.split(_BLOCK)])
    fit_share(network.dimension, full_ND, config.budget)
    _round_to_half(network.dimension)
    dims_N = torch.cat([network.dimension(block) for block in full_ND.split(_BLOCK)])
    return HeadReport(
        num_images=num_images,
        num_pooled=pooled_NC.shape[1],
        num_axes=int(network.projection.weight.any(1).sum()),
        mean_dim=float(dims_N.mean()),
        std_dim=float(dims_N.std(correction=0)),
        share=network.dimension.share,
        energy_kept=_energy_kept(full_ND, dims_N),
        variance_axes={f"{percent}": _num_axes_of(variances_C, percent / 100) for percent in (50, 90, 99)},
    )


def _pooled_and_local(network: EmbedderNetwork, pixels_B3HW: torch.Tensor) -> torch.Tensor:
    """(B, P + L·C): the pooled vector of each picture, then what L of its locations hold, evenly spread."""
    features_BCHW, pooled_BP, _ = network.pool(pixels_B3HW)
    local_BNC = features_BCHW.flatten(2).mT
    every = -(-local_BNC.shape[1] // _LOCATIONS_PER_IMAGE)
    return torch.cat([pooled_BP, local_BNC[:, every // 2 :: every].flatten(1)], dim=1)


def _round_to_half(module: nn.Module) -> None:
    for value in module.state_dict().values():
        if value.is_floating_point():
            value.copy_(value.half())


def _settle(projection: nn.Linear, mean_C: torch.Tensor) -> None:
    """Bring a fitted projection to numbers that float16 holds; its scale does not matter, embeddings are normalised."""
    largest = torch.maximum(projection.weight.abs().max(), projection.bias.abs().max() / 1000)
    projection.weight /= largest
    _round_to_half(projection)
    # The mean must go to zero under the rounded weights, not under those from which they were rounded.
    projection.bias.copy_(-(projection.weight.double() @ mean_C))
    _round_to_half(projection)


def _energy_kept(full_ND: torch.Tensor, dims_N: torch.Tensor) -> float:
    k = torch.arange(full_ND.shape[1])
    blocks = zip(full_ND.split(_BLOCK), dims_N.split(_BLOCK), strict=True)
    return sum(float((full * (k < dims[:, None])).square().sum()) for full, dims in blocks) / len(full_ND)


def _num_axes_of(variances_C: torch.Tensor, share: float) -> int:
    """The smallest number of axes, widest first, that hold `share` of the variance."""
    held_C = variances_C.cumsum(0) / variances_C.sum()
    return int((held_C < share).sum()) + 1
