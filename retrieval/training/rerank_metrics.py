"""How well a new order of the candidates answers: average precision at 100 and Recall@1 of reranked lists."""

from collections.abc import Sequence

import torch
from torch import nn

from retrieval.metrics import CUT
from retrieval.training.ranker_examples import RankingExamples
from retrieval.training.ranking_losses import RankingLoss, has_pair, pairwise

Sets = RankingExamples | Sequence[RankingExamples]

_PAIRS = 6400
"""Of a query and a candidate, described at once: 64 queries of 100 candidates."""


def average_precision(
    relevance_QK: torch.Tensor, relevant_QK: torch.Tensor, counts_QK: torch.Tensor, num_relevant_Q: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """AP@100 (Q,) float64 in 0..1, and whether the first candidate is relevant (Q,) bool, in the order of relevance.

    AP@100 = 1/min(R, 100) · Σ over the first 100 relevant of P(i), R = `num_relevant_Q` of the whole gallery: what was
    not found is missing. Candidates that do not count are taken out of the list first (Sakai 2007, SIGIR: condensed
    lists). Where relevance is equal, what is irrelevant comes first.
    """
    is_hit_QK = relevant_QK & counts_QK
    # Stable sorts, the less weighty first: irrelevant before relevant, then by relevance, what does not count last.
    order_QK = is_hit_QK.to(torch.uint8).argsort(dim=1, stable=True)
    by_relevance_QK = relevance_QK.masked_fill(~counts_QK, -torch.inf).gather(1, order_QK)
    order_QK = order_QK.gather(1, by_relevance_QK.argsort(dim=1, descending=True, stable=True))
    # A relevance of -inf might tie with what does not count.
    order_QK = order_QK.gather(1, (~counts_QK).gather(1, order_QK).to(torch.uint8).argsort(dim=1, stable=True))
    hits_QK = is_hit_QK.gather(1, order_QK)[:, :CUT]
    ranks_K = torch.arange(1, hits_QK.shape[1] + 1, device=hits_QK.device)
    precision_QK = hits_QK.cumsum(1).double() / ranks_K
    return (precision_QK * hits_QK).sum(1) / num_relevant_Q.clamp(1, CUT), hits_QK[:, 0]


def measures(relevance_QK: torch.Tensor, examples: RankingExamples) -> dict[str, float]:
    """`map_at_100` and `recall_at_1` in percent, over the queries to which something in the gallery is relevant."""
    precision_Q, is_first_Q = average_precision(relevance_QK, examples.relevant, examples.counts, examples.num_relevant)
    asked_Q = examples.num_relevant > 0
    return {
        "map_at_100": 100 * float(precision_Q[asked_Q].mean()),
        "recall_at_1": 100 * float(is_first_Q[asked_Q].double().mean()),
    }


def similarities(examples: RankingExamples) -> torch.Tensor:
    """(Q, K): inner products of queries and candidates, by which an index orders them."""
    parts = [
        (some.documents.vectors[some.candidates] @ some.queries.vectors[..., None]).squeeze(-1)
        for some in examples.split(_PAIRS)
    ]
    return torch.cat(parts) if parts else torch.zeros(examples.candidates.shape)


def relevance_of(attention: nn.Module, examples: RankingExamples) -> torch.Tensor:
    """Relevance (Q, K) of each query's candidates, differentiable."""
    candidates = examples.documents.take(examples.candidates)
    return attention(examples.queries, candidates, examples.feedback)


@torch.no_grad()
def validate_ranker(attention: nn.Module, validation: Sets, loss_of: RankingLoss = pairwise) -> dict[str, float]:
    """`val_loss`, and of the reranked lists `val_map_at_100` and `val_recall_at_1` in percent; the mean of the sets."""
    attention.eval()
    rows = []
    for examples in as_sets(validation):
        relevance, losses, weights = [], [], []
        for some in examples.split(_PAIRS):
            relevance.append(relevance_of(attention, some))
            losses.append(float(loss_of(relevance[-1], some.relevant, some.counts)))
            weights.append(int(has_pair(some.relevant, some.counts).sum()))
        # A batch's loss is the mean over its queries with a pair.
        loss = sum(loss * weight for loss, weight in zip(losses, weights, strict=True)) / max(1, sum(weights))
        rows.append({"loss": loss, **measures(torch.cat(relevance), examples)})
    return {f"val_{name}": sum(row[name] for row in rows) / len(rows) for name in rows[0]}


def as_sets(sets: Sets) -> list[RankingExamples]:
    """One set of examples, or several, as a list."""
    return [sets] if isinstance(sets, RankingExamples) else list(sets)
