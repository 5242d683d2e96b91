"""Pooled vectors of many pictures, a batch at a time, by a folded copy of the network."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from tqdm import tqdm

from retrieval.device import fast_autocast
from retrieval.layers.folding import fold_batch_norms
from retrieval.network import EmbedderNetwork, scale_pixels


def batches(pixels_NHW3: np.ndarray, batch_size: int) -> Iterator[torch.Tensor]:
    """uint8 pixels (N, H, W, 3), a batch at a time, scaled to float32 (B, 3, H, W) in −1..1."""
    for start in range(0, len(pixels_NHW3), batch_size):
        yield scale_pixels(torch.from_numpy(np.ascontiguousarray(pixels_NHW3[start : start + batch_size])))


@torch.no_grad()
def inferred_batches(
    network: EmbedderNetwork,
    batches: Iterable[torch.Tensor],
    part: Callable[[EmbedderNetwork, torch.Tensor], torch.Tensor],
) -> Iterator[torch.Tensor]:
    """`part(network, pixels)`, such as its pooled vectors, float32 on the CPU, of each batch of pixels, as they come.

    Pixels are (B, 3, H, W) in −1..1; the network that computes is a folded copy on the network's own device.
    """
    device = next(network.parameters()).device
    folded = fold_batch_norms(network).to(memory_format=torch.channels_last)
    for batch_B3HW in batches:
        with fast_autocast(device):
            output = part(folded, batch_B3HW.to(device))
        # Outside, so that whoever takes it does not compute in bfloat16 too.
        yield output.float().cpu()


def pooled_batches(network: EmbedderNetwork, batches: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
    """Pooled vectors (B, P) float32, on the CPU, of each batch of pixels (B, 3, H, W) in −1..1, as they come."""
    return inferred_batches(network, batches, lambda folded, pixels_B3HW: folded.pool(pixels_B3HW).pooled)


def pooled_vectors(
    network: EmbedderNetwork,
    pixels_NHW3: np.ndarray,
    *,
    batch_size: int = 256,
    show_progress_bar: bool = False,
) -> torch.Tensor:
    """Pooled vectors (N, P) float32, on the CPU, of uint8 pixels (N, H, W, 3)."""
    total = -(-len(pixels_NHW3) // batch_size)
    scaled = tqdm(batches(pixels_NHW3, batch_size), "encode", total, leave=False, disable=not show_progress_bar)
    return torch.cat(list(pooled_batches(network, scaled)))
