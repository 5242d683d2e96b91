"""The nested projection by principal axes: which numbers come first, and how much each weighs."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from retrieval.device import fast_autocast
from retrieval.errors import UsageError
from retrieval.layers.folding import fold_batch_norms
from retrieval.network import EmbedderNetwork, scale_pixels


def batches(pixels_NHW3: np.ndarray, batch_size: int) -> Iterator[torch.Tensor]:
    """uint8 pixels (N, H, W, 3), a batch at a time, scaled to float32 (B, 3, H, W) in −1..1."""
    for start in range(0, len(pixels_NHW3), batch_size):
        yield scale_pixels(torch.from_numpy(np.ascontiguousarray(pixels_NHW3[start : start + batch_size])))


@torch.no_grad()
def pooled_vectors(
    network: EmbedderNetwork,
    pixels_NHW3: np.ndarray,
    *,
    change: Callable[[torch.Tensor], torch.Tensor] | None = None,
    batch_size: int = 256,
    show_progress_bar: bool = False,
) -> torch.Tensor:
    """Pooled vectors (N, C) float32, on the CPU, of uint8 pixels (N, H, W, 3).

    `change`, if given, is applied to each batch (B, 3, H, W) float in 0..1 first.
    """
    device = next(network.parameters()).device
    folded = fold_batch_norms(network).to(memory_format=torch.channels_last)
    pooled = []
    total = -(-len(pixels_NHW3) // batch_size)
    for batch in tqdm(batches(pixels_NHW3, batch_size), "encode", total, leave=False, disable=not show_progress_bar):
        if change is not None:
            batch = change(batch.add(1).div_(2)).mul(2).sub_(1)
        with fast_autocast(device):
            pooled.append(folded.pool(batch.to(device))[0].float().cpu())
    return torch.cat(pooled)


@torch.no_grad()
def fit_projection(projection: nn.Linear, pooled_NC: torch.Tensor, *, whitening: float = 0.75) -> None:
    """Set a linear map (C → D) to the principal axes of `pooled_NC`, the widest first, in place.

    With μ the mean, v_k and σ_k² the eigenvectors and eigenvalues of the covariance in falling order, number k of
    the embedding is v_kᵀ(x − μ) / σ_k^`whitening`: 0 is plain PCA, which changes no inner product, 1 whitens fully
    (Jégou and Chum 2012, ECCV); what lies between was best on classes never trained on. Axes beyond C are zero.
    Raises `UsageError` where all vectors are equal.
    """
    pooled = pooled_NC.double()
    mean_C = pooled.mean(0)
    if not (pooled - mean_C).any():
        raise UsageError(f"expected pooled vectors that differ, got {len(pooled)} that are equal")
    centred = pooled - mean_C
    eigenvalues, eigenvectors = torch.linalg.eigh(centred.T @ centred / len(pooled))
    order = eigenvalues.argsort(descending=True)[: projection.out_features]
    # Axes that carry next to nothing would be blown up by whitening: they count as no narrower than this floor.
    sigma = eigenvalues[order].clamp_min(1e-6 * eigenvalues.max()).sqrt()
    axes_KC = (eigenvectors[:, order] / sigma**whitening).T
    projection.weight.zero_()
    projection.bias.zero_()
    projection.weight[: len(axes_KC)] = axes_KC.to(projection.weight)
    projection.bias[: len(axes_KC)] = -(axes_KC @ mean_C).to(projection.bias)
