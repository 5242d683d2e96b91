"""What must not tell pictures apart: how distorted copies differ from originals, and pictures of a class from its mean.

Dividing it out before the principal axes are taken is within-class covariance normalisation (Hatch, Kajarekar and
Stolcke 2006, Interspeech), here to the power ½ and, for a fifth, with distorted copies as classes of their own.
"""

from typing import NamedTuple

import torch

from retrieval.projection import covariance

_LABELLED_SHARE = 0.7  # of how copies differ; the rest is that of pictures without labels
_CLASS_SHARE = 0.8  # of all, where every picture has others of its class; the rest is how copies differ
_FLOOR = 0.05  # of the mean variance, for directions in which nothing differs
_UNLABELLED_SHARE = 0.1  # of the covariance whose axes are taken


class Copies(NamedTuple):
    """`pooled` (N, C) of N pictures, `distorted` (V, N, C) of V distorted copies of each, float32."""

    pooled: torch.Tensor
    distorted: torch.Tensor


@torch.no_grad()
def nuisance_covariance(
    labelled: Copies | None, targets_N: torch.Tensor | None, unlabelled: Copies | None
) -> torch.Tensor:
    """(C, C) float64, positive definite; one of `labelled` and `unlabelled` must be given.

    `targets_N`: the classes 0.. of the labelled ones; the fewer of these have others of their class, the less it counts
    what members of a class differ by. Each part is scaled to a mean variance of 1 before it is mixed.
    """
    differs = [_unit(_differences(copies)) for copies in (labelled, unlabelled) if copies is not None]
    mixed_CC = differs[0] if len(differs) == 1 else torch.lerp(differs[1], differs[0], _LABELLED_SHARE)
    in_company = 0.0 if labelled is None else (torch.bincount(targets_N)[targets_N] > 1).float().mean().item()
    if in_company:
        within_CC = _unit(_within_classes(labelled.pooled, targets_N))
        mixed_CC = torch.lerp(mixed_CC, within_CC, _CLASS_SHARE * in_company)
    return torch.lerp(mixed_CC, torch.eye(len(mixed_CC), dtype=torch.float64), _FLOOR)


@torch.no_grad()
def picture_covariance(labelled: torch.Tensor | None, unlabelled: torch.Tensor | None) -> torch.Tensor:
    """(C, C) float64: the covariance whose axes are taken, of pooled vectors (N, C); a tenth of it is `unlabelled`."""
    covariances = [
        covariance(pooled_NC, pooled_NC.mean(0, dtype=torch.float64))
        for pooled_NC in (labelled, unlabelled)
        if pooled_NC is not None
    ]
    return covariances[0] if len(covariances) == 1 else torch.lerp(*covariances, _UNLABELLED_SHARE)


def _differences(copies: Copies) -> torch.Tensor:
    """Mean square of what distortion changes; not centred, since a change that all share tells nothing apart either."""
    nought_C = torch.zeros(copies.pooled.shape[1], dtype=torch.float64)
    each = [covariance(distorted_NC - copies.pooled, nought_C) for distorted_NC in copies.distorted]
    return torch.stack(each).mean(0)


def _within_classes(pooled_NC: torch.Tensor, targets_N: torch.Tensor) -> torch.Tensor:
    sizes_K = torch.bincount(targets_N)
    sums_KC = pooled_NC.new_zeros(len(sizes_K), pooled_NC.shape[1], dtype=torch.float64)
    sums_KC.index_add_(0, targets_N, pooled_NC.double())
    means_KC = sums_KC / sizes_K.clamp_min(1)[:, None]
    return covariance(pooled_NC - means_KC[targets_N].float(), torch.zeros_like(means_KC[0]))


def _unit(covariance_CC: torch.Tensor) -> torch.Tensor:
    return covariance_CC / (covariance_CC.trace() / len(covariance_CC)).clamp_min(1e-12)
