"""What the ranker weighs of each candidate: numbers that say how it agrees with the query, and with its rivals."""

import torch
import torch.nn.functional as F
from torch import nn

from retrieval.reranking.described import Described

NUM_FEEDBACK = 6
"""Feedback features of a candidate (`retrieval.reranking.feedback_features`)."""


class GlobalMatch(nn.Module):
    """Inner product, cosine over the candidate's own numbers, and an inner product with a learned gain a number."""

    num_features = 3

    def __init__(self, num_dims: int):
        super().__init__()
        self.gain_D = nn.Parameter(torch.ones(num_dims))

    def forward(self, queries: Described, candidates: Described) -> list[torch.Tensor]:
        query_QKD, candidate_QKD = queries.vectors[:, None], candidates.vectors
        product_QKD = query_QKD * candidate_QKD
        score_QK = product_QKD.sum(-1)
        own_QK = (query_QKD * (candidate_QKD != 0)).norm(dim=-1).clamp_min(1e-6)
        return [score_QK, score_QK / own_QK, product_QKD @ self.gain_D]


class CandidateContext(nn.Module):
    """How near a candidate is to the others, weighed by how well each of those matches the query.

    With weights w = softmax(first · s) over the candidates, the mean similarity Σ w_j v_i·v_j (j ≠ i) is the score that
    an expanded query would give it (α-query expansion, Radenović et al. 2018, arXiv 1711.02512, with learned weights).
    """

    num_features = 4

    def __init__(self):
        super().__init__()
        self.log_sharpness_S = nn.Parameter(torch.tensor([1.0, 2.0, 4.0]).log())

    def forward(self, first_QK: torch.Tensor, affinity_QKK: torch.Tensor) -> list[torch.Tensor]:
        features = [affinity_QKK.mean(-1)]
        for sharpness in self.log_sharpness_S.exp():
            weights_QK = (first_QK * sharpness).softmax(-1)
            others_QK = (1 - weights_QK).clamp_min(1e-2)
            features.append((affinity_QKK @ weights_QK[..., None]).squeeze(-1) / others_QK)
        return features


class MetadataMatch(nn.Module):
    """For each number how far apart, for each category whether the same and how alike; and what is unknown."""

    def __init__(self, num_numbers: int, category_sizes: tuple[int, ...], num_channels: int = 8):
        super().__init__()
        self.alike = nn.ModuleList(nn.Embedding(size, num_channels) for size in category_sizes)
        self.num_features = 2 * num_numbers + 3 * len(category_sizes)

    def forward(self, queries: Described, candidates: Described) -> list[tuple[torch.Tensor, torch.Tensor | None]]:
        """Features (Q, K), each with a mask of the candidates that it is known for, or None where it is for all."""
        features = []
        for a_Q, b_QK in zip(queries.numbers.unbind(-1), candidates.numbers.unbind(-1), strict=True):
            apart_QK = -(a_Q[:, None] - b_QK).abs()
            known_QK = ~apart_QK.isnan()
            features += [(apart_QK.nan_to_num(0.0).clamp_min(-4), known_QK), (known_QK.to(apart_QK), None)]
        pairs = zip(self.alike, queries.categories.unbind(-1), candidates.categories.unbind(-1), strict=True)
        for alike, a_Q, b_QK in pairs:
            known_QK = (a_Q[:, None] > 0) & (b_QK > 0)
            a_Q1C, b_QKC = (F.normalize(alike(values), dim=-1) for values in (a_Q[:, None], b_QK))
            features += [
                (((a_Q[:, None] == b_QK) & known_QK).to(a_Q1C), None),
                ((a_Q1C * b_QKC).sum(-1) * known_QK, None),
                (known_QK.to(a_Q1C), None),
            ]
        return features


def affinity(vectors_QKD: torch.Tensor) -> torch.Tensor:
    """Inner products (Q, K, K) of the candidates with each other, 0 with themselves."""
    affinity_QKK = vectors_QKD @ vectors_QKD.mT
    return affinity_QKK * (1 - torch.eye(affinity_QKK.shape[-1]).to(affinity_QKK))


def centred(values_QK: torch.Tensor, counts_QK: torch.Tensor | None = None) -> torch.Tensor:
    """Less their mean over the candidates of each query; 0 where `counts_QK` (bool) is False."""
    if counts_QK is None:
        return values_QK - values_QK.mean(-1, keepdim=True)
    num_Q1 = counts_QK.sum(-1, keepdim=True).clamp_min(1)
    return (values_QK - (values_QK * counts_QK).sum(-1, keepdim=True) / num_Q1) * counts_QK


def standardised(values_QK: torch.Tensor, counts_QK: torch.Tensor | None = None) -> torch.Tensor:
    """Less their mean, over their spread, along the candidates of each query; 0 where `counts_QK` (bool) is False.

    So only the difference between candidates of one query is seen, whatever the corpus.
    """
    centred_QK = centred(values_QK, counts_QK)
    num = centred_QK.shape[-1] if counts_QK is None else counts_QK.sum(-1, keepdim=True).clamp_min(1)
    # The floor keeps rounding errors of candidates that are all alike from looking like differences.
    return centred_QK / (centred_QK.square().sum(-1, keepdim=True) / num + 1e-6).sqrt()
