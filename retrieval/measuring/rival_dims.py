"""Other ways to give each image its number of dims at the same mean: at random, and by the energy that it keeps."""

import numpy as np
import torch

from retrieval.dimension import hard_cut
from retrieval.energy_dimension import EnergyDimension, fit_share


def cut(full_ND: np.ndarray, dims_N: np.ndarray | int) -> np.ndarray:
    """Embeddings that are zero beyond their dims and L2-normalised there, (N, D); a row of zeros stays as it is."""
    full, dims = torch.tensor(full_ND), torch.tensor(np.broadcast_to(dims_N, len(full_ND)))
    return hard_cut(full, dims).numpy()


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows at unit length; a row of zeros, such as a picture of one colour, has no direction and stays at zero."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float32).tiny)


def random_dims(dims_N: np.ndarray, *, num: int = 3, seed: int = 0) -> np.ndarray:
    """(`num`, N): the same dims, dealt out to the images anew each time."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.permutation(dims_N) for _ in range(num)])


def energy_dims(full_ND: np.ndarray, *, mean: float, lowest: int, highest: int) -> np.ndarray:
    """(N,) int64: the smallest prefix of each image with a share s of its energy ‖v[:d]‖², one s for all.

    s is such that the mean is as near `mean` as can be; dims lie within `lowest`..`highest`.
    """
    if lowest == highest:
        return np.full(len(full_ND), lowest)
    dimension = EnergyDimension(min_dim=lowest, max_dim=highest)
    full = torch.from_numpy(np.require(full_ND, dtype=np.float32, requirements=["C", "W"]))
    fit_share(dimension, full, mean)
    return torch.cat([dimension(block) for block in full.split(8192)]).long().numpy()
