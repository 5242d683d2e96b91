"""Fitting the nested projection by principal axes: which numbers come first, and how much each weighs."""

import torch
from torch import nn

from retrieval.errors import UsageError
from retrieval.nested_projection import NestedProjection

_BLOCK = 16_384


@torch.no_grad()
def fit_projection(projection: nn.Linear, pooled_NC: torch.Tensor, *, whitening: float = 0.5) -> torch.Tensor:
    """Set a linear map (C → D) to the principal axes of `pooled_NC`, the widest first, in place.

    With μ the mean, v_k and σ_k² the eigenvectors and eigenvalues of the covariance in falling order, number k of
    the embedding is v_kᵀ(x − μ) / σ_k^`whitening`: 0 is plain PCA, which changes no inner product, 1 whitens fully
    (Jégou and Chum 2012, ECCV); half was best for mAP@R on classes never trained on. Axes beyond C, and beyond the
    N − 1 that N vectors span, are zero, as is the correction of a projection that has one. Returns all σ_k² (C,)
    float64. Raises `UsageError` for numbers that are not finite, and where all vectors are equal.
    """
    mean_C = _checked_mean(pooled_NC)
    return _take_axes(projection, mean_C, covariance(pooled_NC, mean_C), len(pooled_NC) - 1, whitening)


@torch.no_grad()
def fit_projection_against(
    projection: nn.Linear,
    pooled_NC: torch.Tensor,
    covariance_CC: torch.Tensor,
    nuisance_CC: torch.Tensor,
    *,
    whitening: float = 0.4,
) -> None:
    """Like `fit_projection`, but what must not tell pictures apart is first divided out, by half of its power.

    With A = `nuisance_CC`^−¼, the axes are those of A `covariance_CC` A, and number k of the embedding is
    v_kᵀA(x − μ) / σ_k^`whitening`; μ is the mean of `pooled_NC`. (`retrieval.training.nuisance` makes both matrices.)
    Raises as `fit_projection` does.
    """
    mean_C = _checked_mean(pooled_NC)
    if not (covariance_CC.isfinite().all() and nuisance_CC.isfinite().all()):
        raise UsageError(
            "expected finite pooled vectors of further pictures and of distorted copies, got NaN or infinity; "
            "check the network's weights"
        )
    eigenvalues_C, vectors_CC = torch.linalg.eigh(nuisance_CC)
    root_CC = vectors_CC * eigenvalues_C.clamp_min(1e-6 * eigenvalues_C[-1]).pow(-0.25) @ vectors_CC.T
    num_spanned = int(torch.linalg.matrix_rank(covariance_CC, hermitian=True))
    _take_axes(projection, mean_C, root_CC @ covariance_CC @ root_CC, num_spanned, whitening, before_CC=root_CC)


def covariance(vectors_NC: torch.Tensor, about_C: torch.Tensor) -> torch.Tensor:
    """Mean outer product of (N, C) vectors' differences from `about_C`, (C, C) float64, a block at a time."""
    total_CC = torch.zeros(len(about_C), len(about_C), dtype=torch.float64, device=vectors_NC.device)
    for block in vectors_NC.split(_BLOCK):
        centred = block.double() - about_C
        total_CC += centred.T @ centred / len(vectors_NC)
    return total_CC


def _checked_mean(pooled_NC: torch.Tensor) -> torch.Tensor:
    num_vectors = len(pooled_NC)
    if num_broken := int((~pooled_NC.isfinite().all(1)).sum()):
        raise UsageError(
            f"expected finite pooled vectors, got NaN or infinity in {num_broken:,} of {num_vectors:,}; "
            "check the network's weights"
        )
    if num_vectors < 2 or (pooled_NC == pooled_NC[0]).all():
        raise UsageError(f"expected pooled vectors that differ, got {num_vectors} that are equal")
    return pooled_NC.mean(0, dtype=torch.float64)


def _take_axes(
    projection: nn.Linear,
    mean_C: torch.Tensor,
    covariance_CC: torch.Tensor,
    num_spanned: int,
    whitening: float,
    *,
    before_CC: torch.Tensor | None = None,
) -> torch.Tensor:
    """Set `projection` to the principal axes of a covariance, of vectors that `before_CC` was applied to, if given."""
    eigenvalues, eigenvectors = torch.linalg.eigh(covariance_CC)
    # eigh's order rises; rounding leaves what should be 0 on either side of it.
    variances_C, axes_CC = eigenvalues.flip(0).clamp_min(0), eigenvectors.flip(1)
    num_axes = min(projection.out_features, num_spanned, len(mean_C))
    # Axes that carry next to nothing would be blown up by whitening: they count as no narrower than this floor.
    sigma_K = variances_C[:num_axes].clamp_min(1e-6 * variances_C[0]).sqrt()
    axes_KC = (axes_CC[:, :num_axes] / sigma_K**whitening).T
    if before_CC is not None:
        axes_KC = axes_KC @ before_CC
    projection.weight.zero_()
    projection.bias.zero_()
    projection.weight[:num_axes] = axes_KC.to(projection.weight)
    projection.bias[:num_axes] = -(axes_KC @ mean_C).to(projection.bias)
    if isinstance(projection, NestedProjection):
        projection.forget_correction()
    return variances_C
