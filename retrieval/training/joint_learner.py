"""What joint training trains: the embedder, with what teaches it alone, and the ranker that reads what it says."""

from dataclasses import replace

import torch
from torch import nn

from retrieval.errors import UsageError
from retrieval.network import NetworkOutput
from retrieval.reranking.described import Described
from retrieval.reranking.encoders import describe_output
from retrieval.training.learner import Learner
from retrieval.training.ranker_examples import RankingExamples
from retrieval.training.ranking_losses import RankingLoss, has_pair


class JointLearner(nn.Module):
    """`ranking_weight` × the ranking loss + `embedder_weight` × the learner's own, of the same pictures.

    Norms keep the statistics that they have: a step shows too few pictures, too much alike, for new ones.
    """

    def __init__(
        self,
        learner: Learner,
        attention: nn.Module,
        rank: RankingLoss,
        *,
        ranking_weight: float,
        embedder_weight: float,
        token_bytes: int,
    ):
        super().__init__()
        self.learner, self.attention, self.rank = learner, attention, rank
        self.ranking_weight, self.embedder_weight, self.token_bytes = ranking_weight, embedder_weight, token_bytes

    def train(self, mode: bool = True) -> "JointLearner":
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def forward(
        self,
        views_B3HW: torch.Tensor,
        targets_B: torch.Tensor,
        instances_B: torch.Tensor,
        widths: tuple[int, ...],
        lists: RankingExamples,
    ) -> torch.Tensor:
        """The loss of the views of `shown_in(lists)`; targets, instances and widths as for the `Learner`."""
        output = self.learner.network(views_B3HW)
        # Scores are small differences, for which bfloat16 is too coarse.
        with torch.autocast(views_B3HW.device.type, enabled=False):
            loss = output.pooled.new_zeros(())
            if self.embedder_weight:
                alone = self.learner.loss_of(output.pooled, targets_B, instances_B, widths)
                loss = loss + self.embedder_weight * alone
            if self.ranking_weight:
                ranked = self.rank(self.relevance(output, lists), lists.relevant, lists.counts)
                loss = loss + self.ranking_weight * ranked
        return loss

    def relevance(self, output: NetworkOutput, lists: RankingExamples) -> torch.Tensor:
        """(Q, K), from what the network says of the views of `shown_in(lists)`: what a differentiable engine gives."""
        num_queries, num_candidates = lists.candidates.shape
        config, end = self.learner.network.config, num_queries * (1 + num_candidates)
        as_queries, as_documents = (
            describe_output(output, config, role=role, token_bytes=self.token_bytes) for role in ("query", "document")
        )
        queries = as_queries.map(lambda field: field[:num_queries])
        candidates = as_documents.map(lambda field: field[num_queries:end].unflatten(0, (num_queries, num_candidates)))
        return self.attention(
            _with_metadata(queries, lists.documents.take(lists.rows)),
            _with_metadata(candidates, lists.documents.take(lists.candidates)),
        )


def shown_in(lists: RankingExamples) -> torch.Tensor:
    """(B,) rows of the pictures of a step: the queries, all candidates, and the queries once more.

    The second view of each query is what it is told apart by.
    """
    return torch.cat([lists.rows, lists.candidates.flatten(), lists.rows])


def usable(lists: RankingExamples, num_candidates: int) -> RankingExamples:
    """The queries with a pair, and candidates enough that count; raises `UsageError` where there is none.

    Of what is described only the metadata is kept: the rest is what the network was to say at the time.
    """
    if lists.rows is None:
        raise UsageError("expected candidates of queries that are documents themselves, with their rows, got none")
    is_usable = has_pair(lists.relevant, lists.counts) & (lists.counts.sum(1) >= num_candidates)
    if not is_usable.any():
        raise UsageError(
            f"expected queries with {num_candidates} candidates that count, a relevant one and another among them, "
            "got none; ask for fewer or give more pictures"
        )
    bare = replace(lists, queries=_metadata_of(lists.queries), documents=_metadata_of(lists.documents))
    return bare.take(is_usable)


def some_candidates(lists: RankingExamples, num_candidates: int, generator: torch.Generator) -> torch.Tensor:
    """(Q, `num_candidates`) places in each query's list, all of which count: half relevant, as far as they reach.

    At least one is relevant, and one is not. Which of them is drawn.
    """
    is_relevant_QK, is_rival_QK = lists.relevant & lists.counts, ~lists.relevant & lists.counts
    num_relevant_Q1, num_rivals_Q1 = (values.sum(1, keepdim=True) for values in (is_relevant_QK, is_rival_QK))
    least_Q1 = (num_candidates - num_rivals_Q1).clamp_min(1)
    most_Q1 = num_relevant_Q1.clamp_max(num_candidates - 1)
    take_Q1 = torch.minimum(torch.maximum(torch.full_like(least_Q1, num_candidates // 2), least_Q1), most_Q1)
    drawn_QK = torch.rand(lists.candidates.shape, generator=generator)
    is_taken_QK = (_rank_within(is_relevant_QK, drawn_QK) < take_Q1) | (
        _rank_within(is_rival_QK, drawn_QK) < num_candidates - take_Q1
    )
    return (~is_taken_QK).to(torch.uint8).argsort(dim=1, stable=True)[:, :num_candidates]


def _rank_within(mask_QK: torch.Tensor, values_QK: torch.Tensor) -> torch.Tensor:
    """(Q, K): each one's place by value among those of the mask; past the end for the others."""
    order_QK = values_QK.masked_fill(~mask_QK, 2).argsort(dim=1)
    return order_QK.argsort(dim=1).masked_fill(~mask_QK, mask_QK.shape[1])


def _metadata_of(described: Described) -> Described:
    emptied = {name: getattr(described, name)[:, :0].clone() for name in ("vectors", "tokens", "mask")}
    return described._replace(**emptied)


def _with_metadata(described: Described, stored: Described) -> Described:
    """A network does not say what a picture's metadata is; the documents do."""
    return described._replace(numbers=stored.numbers, categories=stored.categories)
