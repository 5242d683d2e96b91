"""The linear map of local tokens by principal axes: what a location shows, decorrelated, before anything is trained."""

import numpy as np
import torch

from retrieval.errors import UsageError
from retrieval.network import EmbedderNetwork
from retrieval.pooled_vectors import batches, inferred_batches
from retrieval.projection import fit_projection
from retrieval.tokens import LocalTokens


def fit_tokens(tokens: LocalTokens, features_MC: torch.Tensor, *, whitening: float = 1.0) -> None:
    """Set the map of `tokens` to the first token_dim principal axes of local features (M, C) float32, in place.

    Centred, and each number divided by its own spread to the power `whitening`, as `retrieval.projection` does it for
    pooled vectors: M vectors span M − 1 axes, numbers beyond are zero. Raises `UsageError` for fewer than 2 vectors,
    equal ones, and numbers that are not finite.
    """
    fit_projection(tokens.projection, features_MC, whitening=whitening)


def local_features(
    network: EmbedderNetwork,
    pixels_NSS3: np.ndarray,
    *,
    num_locations: int = 8,
    seed: int = 0,
    batch_size: int = 64,
) -> torch.Tensor:
    """What random locations of each picture's feature map hold, (N · num_locations, C) float32, on the CPU.

    `pixels_NSS3` is uint8; no location of a picture is drawn twice, and which are follows from `seed`, whatever the
    batch. Of a map that has fewer locations all are taken. Raises `UsageError` for a number below 1.
    """
    if num_locations < 1:
        raise UsageError(f"expected num_locations of at least 1, got {num_locations}")
    random = np.random.default_rng(seed)
    features = [torch.zeros(0, network.backbone.num_channels)]
    for features_BCHW in inferred_batches(
        network, batches(pixels_NSS3, batch_size), lambda folded, pixels_B3HW: folded.backbone(pixels_B3HW)
    ):
        features_BNC = features_BCHW.flatten(2).mT
        drawn_BN = torch.from_numpy(random.random(features_BNC.shape[:2]).argsort(axis=1)[:, :num_locations])
        features.append(features_BNC.take_along_dim(drawn_BN[..., None], dim=1).flatten(0, 1))
    return torch.cat(features)
