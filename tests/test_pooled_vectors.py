"""Pooled vectors of many pictures: in order whatever the batch, in float32 whatever the network computes in."""

import numpy as np
import torch
from torch import nn

from retrieval.coatnet import CONFIGS
from retrieval.network import EmbedderConfig, EmbedderNetwork, scale_pixels
from retrieval.pooled_vectors import batches, pooled_batches, pooled_vectors


def test_pooled_vectors_come_in_order_whatever_the_batch():
    config = EmbedderConfig(backbone=CONFIGS["coatnet_micro"], image_size=32)
    torch.manual_seed(0)
    network = EmbedderNetwork(config).train()
    pixels = np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3), np.uint8)
    whole = pooled_vectors(network, pixels)
    assert whole.shape == (7, 256) and whole.dtype == torch.float32 and network.training
    parts = pooled_vectors(network, pixels, batch_size=3)
    cosines = nn.functional.cosine_similarity(whole[:, None], parts[None], dim=-1)
    assert (cosines.argmax(1) == torch.arange(7)).all() and cosines.diag().min() > 0.999


def test_what_takes_pooled_vectors_computes_as_before(monkeypatch):
    monkeypatch.setattr(
        "retrieval.pooled_vectors.fast_autocast", lambda device: torch.autocast(device.type, torch.bfloat16)
    )
    torch.manual_seed(0)
    network = EmbedderNetwork(EmbedderConfig(backbone=CONFIGS["coatnet_micro"], image_size=32))
    weight = torch.rand(256, 2)
    for pooled_BC in pooled_batches(network, [torch.zeros(1, 3, 32, 32)] * 2):
        assert not torch.is_autocast_enabled("cpu")
        assert pooled_BC.dtype == (pooled_BC @ weight).dtype == torch.float32


def test_batches_are_scaled_to_minus_one_and_one():
    pixels = np.zeros((5, 2, 4, 3), np.uint8)
    pixels[..., 1] = 255
    parts = list(batches(pixels, 2))
    assert [len(part) for part in parts] == [2, 2, 1] and parts[0].shape == (2, 3, 2, 4)
    assert (parts[0][:, 0] == -1).all() and (parts[0][:, 1] == 1).all()
    scaled = scale_pixels(torch.from_numpy(pixels))
    assert scaled.is_contiguous(memory_format=torch.channels_last)
