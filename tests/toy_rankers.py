"""Rankers for the toy embedder: weights set by hand, or as good as trained."""

import torch

from retrieval import Ranker
from retrieval.ranker import RankerConfig, RelevanceAttention
from retrieval.reranking.metadata import MetadataColumns

TOY = "f00d" * 16
FEATURES = ("product", "cosine", "gain", "token0", "token1", "mean", "context1", "context2", "context4")
FEEDBACK = ("accepted", "rejected", "accepted_here", "rejected_here", "like_accepted", "like_rejected")


def config(**changes) -> RankerConfig:
    return RankerConfig(token_dim=12, num_heads=2, num_channels=8, num_candidate_heads=2, **changes)


def weighing(*, embedder: str = TOY, metadata: MetadataColumns | None = None, **weights: float) -> Ranker:
    """A ranker whose score is a sum of standardised features: `FEATURES`, `metadata0`, … and `FEEDBACK`, by weight."""
    attention = RelevanceAttention(config(metadata=metadata or MetadataColumns()))
    num_metadata = attention.metadata_match.num_features
    names = [*FEATURES, *(f"metadata{number}" for number in range(num_metadata)), *FEEDBACK]
    attention.weigh.weight.data = torch.tensor([[weights.pop(name, 0.0) for name in names]])
    assert not weights, f"no such features: {weights}"
    return Ranker(attention, embedder=embedder, name="by hand")


def perturbed(*, embedder: str = TOY, metadata: MetadataColumns | None = None, seed: int = 0) -> Ranker:
    """A ranker that weighs everything, as if it had been trained."""
    generator = torch.Generator().manual_seed(seed)
    attention = RelevanceAttention(config(metadata=metadata or MetadataColumns()))
    for parameter in attention.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    return Ranker(attention, embedder=embedder)
