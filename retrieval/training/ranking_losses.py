"""Losses that teach a ranker order: all compare the relevant candidates of a query with the irrelevant ones.

All take `relevance_QK` (Q, K) logits, `relevant_QK` (Q, K) bool and `counts_QK` (Q, K) bool, False where a candidate
is left out, and return a scalar: the mean over the queries that have a relevant and an irrelevant candidate that count,
0 with a gradient of 0 where none has.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F

RankingLoss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def pairwise(relevance_QK: torch.Tensor, relevant_QK: torch.Tensor, counts_QK: torch.Tensor) -> torch.Tensor:
    """Mean over the pairs of a query of BCEWithLogits(s_pos − s_neg, 1) (RankNet, Burges et al. 2005, ICML)."""
    return _mean_over_pairs(lambda apart_QKK: F.softplus(-apart_QKK), relevance_QK, relevant_QK, counts_QK)


def margin(relevance_QK: torch.Tensor, relevant_QK: torch.Tensor, counts_QK: torch.Tensor) -> torch.Tensor:
    """Mean over the pairs of a query of max(0, 1 − (s_pos − s_neg))."""
    return _mean_over_pairs(lambda apart_QKK: F.relu(1 - apart_QKK), relevance_QK, relevant_QK, counts_QK)


def listwise(relevance_QK: torch.Tensor, relevant_QK: torch.Tensor, counts_QK: torch.Tensor) -> torch.Tensor:
    """Cross entropy between a softmax over the candidates and equal shares of the relevant ones (ListNet, top one).

    Cao et al. 2007, ICML, with judgments of 0 and minus infinity for relevance.
    """
    log_shares_QK = relevance_QK.masked_fill(~counts_QK, _NEVER).log_softmax(-1)
    targets_QK = relevant_QK & counts_QK
    loss_Q = -(log_shares_QK * targets_QK).sum(-1) / targets_QK.sum(-1).clamp_min(1)
    return _mean_over_queries(loss_Q, relevance_QK, relevant_QK, counts_QK)


def smooth_ap(
    relevance_QK: torch.Tensor, relevant_QK: torch.Tensor, counts_QK: torch.Tensor, *, temperature: float = 0.1
) -> torch.Tensor:
    """1 − average precision, with sigmoids for the steps of ranks (Brown et al. 2020, arXiv 2007.12163).

    With G(x) = sigmoid(x / τ) and P the relevant, A all candidates that count, the average over i in P of
    (1 + Σ_{j∈P, j≠i} G(s_j − s_i)) / (1 + Σ_{j∈A, j≠i} G(s_j − s_i)). `temperature` τ is in units of a logit, whose
    spread is about 1; the paper's 0.01 is for cosines.
    """
    ahead_QKK = ((relevance_QK[:, None, :] - relevance_QK[:, :, None]) / temperature).sigmoid()
    others_KK = 1 - torch.eye(relevance_QK.shape[1], dtype=ahead_QKK.dtype, device=ahead_QKK.device)
    targets_QK = relevant_QK & counts_QK
    rank_among_relevant_QK = 1 + (ahead_QKK * others_KK * targets_QK[:, None, :]).sum(-1)
    rank_QK = 1 + (ahead_QKK * others_KK * counts_QK[:, None, :]).sum(-1)
    precision_Q = (rank_among_relevant_QK / rank_QK * targets_QK).sum(-1) / targets_QK.sum(-1).clamp_min(1)
    return _mean_over_queries(1 - precision_Q, relevance_QK, relevant_QK, counts_QK)


RANKING_LOSSES: dict[str, RankingLoss] = {
    "pairwise": pairwise,
    "listwise": listwise,
    "margin": margin,
    "smooth_ap": smooth_ap,
}


def has_pair(relevant_QK: torch.Tensor, counts_QK: torch.Tensor) -> torch.Tensor:
    """(Q,) bool: which queries have a relevant and an irrelevant candidate that count."""
    return (relevant_QK & counts_QK).any(-1) & (~relevant_QK & counts_QK).any(-1)


_NEVER = -1e9
"""Far below any logit, and finite: a query with nothing that counts must not spoil the gradient."""


def _mean_over_pairs(of_pair, relevance_QK, relevant_QK, counts_QK) -> torch.Tensor:
    apart_QKK = relevance_QK[:, :, None] - relevance_QK[:, None, :]
    pairs_QKK = (relevant_QK & counts_QK)[:, :, None] & (~relevant_QK & counts_QK)[:, None, :]
    loss_Q = (of_pair(apart_QKK) * pairs_QKK).sum((1, 2)) / pairs_QKK.sum((1, 2)).clamp_min(1)
    return _mean_over_queries(loss_Q, relevance_QK, relevant_QK, counts_QK)


def _mean_over_queries(loss_Q, relevance_QK, relevant_QK, counts_QK) -> torch.Tensor:
    teaches_Q = has_pair(relevant_QK, counts_QK)
    if not teaches_Q.any():
        return 0 * relevance_QK.sum()
    return loss_Q[teaches_Q].mean()
