"""The candidates of one query look at each other: relevance spreads among those that are alike."""

import torch
import torch.nn.functional as F
from torch import nn


class CandidateAttention(nn.Module):
    """A transformer block over the set of candidates, its attention biased by how alike two candidates are.

    After the affinity features of Ouyang et al. 2021 (arXiv 2110.13430), whose re-ranker also reads a candidate in the
    context of the others. There are no positions: the order of the candidates does not matter.
    """

    def __init__(self, num_channels: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.norm1, self.norm2 = nn.LayerNorm(num_channels), nn.LayerNorm(num_channels)
        self.query_key_value = nn.Linear(num_channels, 3 * num_channels)
        self.project = nn.Linear(num_channels, num_channels)
        self.affinity_scale_H = nn.Parameter(torch.linspace(2, 16, num_heads))
        self.feed_forward = nn.Sequential(
            nn.Linear(num_channels, 2 * num_channels), nn.GELU(), nn.Linear(2 * num_channels, num_channels)
        )
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.feed_forward[-1].weight)

    def forward(self, candidates_QKC: torch.Tensor, affinity_QKK: torch.Tensor) -> torch.Tensor:
        """(Q, K, C) and the standardised affinity (Q, K, K) of the candidates to (Q, K, C)."""
        heads_3QHKC = (
            self.query_key_value(self.norm1(candidates_QKC))
            .unflatten(-1, (3, self.num_heads, -1))
            .permute(2, 0, 3, 1, 4)
        )
        query_QHKC, key_QHKC, value_QHKC = heads_3QHKC
        bias_QHKK = affinity_QKK[:, None] * self.affinity_scale_H[:, None, None]
        mixed_QHKC = F.scaled_dot_product_attention(query_QHKC, key_QHKC, value_QHKC, attn_mask=bias_QHKK)
        candidates_QKC = candidates_QKC + self.project(mixed_QHKC.transpose(1, 2).flatten(2))
        return candidates_QKC + self.feed_forward(self.norm2(candidates_QKC))
