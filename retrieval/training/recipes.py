"""Ways to teach `d`: each turns predicted lengths into a loss that says which pictures deserve more numbers.

    interpolated   scores read from the table between two lengths, linear in log d            (the default)
    expected       scores averaged over a spread of lengths around d
    gumbel         one length drawn a document, its gradient passed straight through
    ordinal        regression onto each picture's smallest sufficient length, one question a length
    in_batch       the soft cut, against the other documents of the batch alone

The first three differ only in how a score depends on `d`, and share `ranking_loss`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from retrieval.dimension import soft_cut
from retrieval.errors import UsageError
from retrieval.training.candidates import CandidateScores


@dataclass(frozen=True, kw_only=True, eq=False)
class Ground:
    """What `d` is learned on, for N pictures (see `retrieval.training.candidates`).

    `pooled` (N, C); `full` (N, D) uncut, unit length; `distorted` (N, D) likewise, of a distorted copy of each;
    `targets` (N,) classes, −1 for none; `complexity` (N,) log bits a pixel. `originals`: each distorted copy against
    its original (column 0) and what could be taken for it. `kin`: each picture against its neighbours, some of them of
    its class.
    """

    pooled: torch.Tensor
    full: torch.Tensor
    distorted: torch.Tensor
    targets: torch.Tensor
    complexity: torch.Tensor
    originals: CandidateScores
    kin: CandidateScores


@dataclass(frozen=True, kw_only=True)
class RankingTerms:
    """Temperatures that scores are divided by and weights of the terms: finding the original, finding its class."""

    instance_temperature: float = 0.015
    class_temperature: float = 0.05
    instance_weight: float = 1.0
    class_weight: float = 0.2

    def __post_init__(self):
        if not (self.instance_temperature > 0 and self.class_temperature > 0):
            got = f"{self.instance_temperature}, {self.class_temperature}"
            raise UsageError(f"expected temperatures above 0, for instances and classes, got {got}")


Recipe = Callable[[torch.Tensor, torch.Tensor, Ground, RankingTerms], torch.Tensor]
"""(dims (N,), the queries of this step (Q,), ground, terms) → a scalar loss, differentiable in dims."""


def interpolated(dims_N: torch.Tensor, chosen_Q: torch.Tensor, ground: Ground, terms: RankingTerms) -> torch.Tensor:
    """A document's score lies between those at the two lengths around its d, linear in log d (`CandidateScores.at`)."""
    return ranking_loss(lambda table, rows: table.at(dims_N, rows), chosen_Q, ground, terms)


def expected(dims_N: torch.Tensor, chosen_Q: torch.Tensor, ground: Ground, terms: RankingTerms) -> torch.Tensor:
    """A document's score is the mean over a spread of lengths, of which log d is the middle (`_log_chances`)."""

    def scores(table: CandidateScores, rows: torch.Tensor) -> torch.Tensor:
        chances_NG = _log_chances(dims_N, table.lengths).exp()
        return (table.scores[rows] * F.embedding(table.documents[rows], chances_NG)).sum(-1)

    return ranking_loss(scores, chosen_Q, ground, terms)


def gumbel(dims_N: torch.Tensor, chosen_Q: torch.Tensor, ground: Ground, terms: RankingTerms) -> torch.Tensor:
    """Jang et al. 2017, arXiv 1611.01144: hard samples forward, the relaxation's gradient backward."""
    drawn_NG = F.gumbel_softmax(_log_chances(dims_N, ground.kin.lengths), hard=True)
    return ranking_loss(
        lambda table, rows: (table.scores[rows] * F.embedding(table.documents[rows], drawn_NG)).sum(-1),
        chosen_Q,
        ground,
        terms,
    )


def ordinal(dims_N: torch.Tensor, chosen_Q: torch.Tensor, ground: Ground, terms: RankingTerms) -> torch.Tensor:
    """One logistic question a length, "are more numbers than this needed?" (Cao et al. 2020, arXiv 1901.07884)."""
    lengths_G = ground.originals.lengths
    needed_QG = (lengths_G < smallest_sufficient(ground.originals)[chosen_Q, None]).float()
    return F.binary_cross_entropy_with_logits((dims_N[chosen_Q, None] / lengths_G).log() / _SPREAD, needed_QG)


def in_batch(dims_N: torch.Tensor, chosen_Q: torch.Tensor, ground: Ground, terms: RankingTerms) -> torch.Tensor:
    """Documents are cut softly at d, and those of the same step alone compete for its queries."""
    documents_QD = soft_cut(ground.full[chosen_Q], dims_N[chosen_Q], temperature=8.0)
    itself = torch.eye(len(chosen_Q), dtype=torch.bool)
    instance_logits = ground.distorted[chosen_Q] @ documents_QD.T / terms.instance_temperature
    loss = terms.instance_weight * F.cross_entropy(instance_logits, torch.arange(len(chosen_Q)))
    if terms.class_weight:
        targets_Q = ground.targets[chosen_Q]
        same_QQ = (targets_Q[:, None] == targets_Q) & (targets_Q[:, None] >= 0) & ~itself
        logits = (ground.full[chosen_Q] @ documents_QD.T / terms.class_temperature).masked_fill(itself, -torch.inf)
        loss = loss + terms.class_weight * _class_loss(logits, same_QQ)
    return loss


RECIPES: dict[str, Recipe] = {recipe.__name__: recipe for recipe in (interpolated, expected, gumbel, ordinal, in_batch)}

_SPREAD = 0.2
"""Of a length around `d`, in log: 0.2 is a fifth of it."""


def ranking_loss(
    scores_of: Callable[[CandidateScores, torch.Tensor], torch.Tensor],
    chosen_Q: torch.Tensor,
    ground: Ground,
    terms: RankingTerms,
) -> torch.Tensor:
    """Cross entropy of the original among its competitors, plus that of the class among its neighbours.

    The second is Khosla et al. 2020, arXiv 2004.11362, eq. 2, over the candidates of queries with kin among them.
    """
    loss = torch.zeros(())
    if terms.instance_weight:
        logits_QK = scores_of(ground.originals, chosen_Q) / terms.instance_temperature
        target_Q = torch.zeros(len(chosen_Q), dtype=torch.long)
        loss = loss + terms.instance_weight * F.cross_entropy(logits_QK, target_Q)
    labelled_Q = chosen_Q[ground.targets[chosen_Q] >= 0]
    if terms.class_weight and len(labelled_Q):
        same_QK = ground.targets[ground.kin.documents[labelled_Q]] == ground.targets[labelled_Q, None]
        logits_QK = scores_of(ground.kin, labelled_Q) / terms.class_temperature
        loss = loss + terms.class_weight * _class_loss(logits_QK, same_QK)
    return loss


def smallest_sufficient(originals: CandidateScores) -> torch.Tensor:
    """(Q,) int64: the smallest length from which on each query's original beats all others, or else the largest."""
    wins_QG = originals.scores[:, 0] > originals.scores[:, 1:].amax(1)
    stays_QG = wins_QG.flip(1).cummin(1).values.flip(1)
    first_Q = stays_QG.int().argmax(1)
    return torch.where(stays_QG.any(1), originals.lengths[first_Q], originals.lengths[-1])


def _log_chances(dims_N: torch.Tensor, lengths_G: torch.Tensor) -> torch.Tensor:
    """(N, G): log of the chance of each length, a normal distribution of log length around log d."""
    return (-((dims_N[:, None] / lengths_G).log() / _SPREAD).square() / 2).log_softmax(1)


def _class_loss(logits_QK: torch.Tensor, same_QK: torch.Tensor) -> torch.Tensor:
    """Mean over the queries with kin of the mean negative log share of their kin."""
    asks = same_QK.any(1)
    if not asks.any():
        return logits_QK.new_zeros(())
    log_share_QK = logits_QK[asks].log_softmax(1).masked_fill(~same_QK[asks], 0.0)
    return -(log_share_QK.sum(1) / same_QK[asks].sum(1)).mean()
