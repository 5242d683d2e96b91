"""Teaching the projection's correction: plain pictures must do with few numbers, all else stays as it was.

Plain pictures come without labels beside labelled ones: they are asked for one by one alone, so they need only as many
numbers as tell them apart. The labelled ones stay where the linear map puts them, and distorted copies of both are
brought back to their originals.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from tqdm import trange

from retrieval.dimension import hard_cut
from retrieval.errors import TrainingError, UsageError
from retrieval.nested_projection import NestedProjection, correction_net
from retrieval.training.nuisance import Copies


@dataclass(frozen=True, kw_only=True)
class ConcentrateConfig:
    """Settings of the stage that teaches the correction, a net with `num_hidden` units.

    Each step cuts `batch_size` labelled pictures at one length drawn from `lengths` and as many plain ones at one from
    `plain_lengths`. Weights: `plain_weight` and `crowded_weight` of finding the original of a distorted copy, among the
    plain and the labelled; `stay_weight` of keeping each labelled picture where the linear map puts it; `tail_weight`
    of the energy that plain pictures have beyond `tail_from`. `dropout`: of the hidden units, since plain pictures are
    few. `num_copies`: distorted copies of each labelled picture and, where they are few, of each plain one.
    """

    num_hidden: int = 512
    steps: int = 1000
    batch_size: int = 1024
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    dropout: float = 0.15
    temperature: float = 0.05
    lengths: tuple[float, float] = (40.0, 512.0)
    plain_lengths: tuple[float, float] = (32.0, 64.0)
    tail_from: int = 48
    plain_weight: float = 2.0
    crowded_weight: float = 1.2
    stay_weight: float = 100.0
    tail_weight: float = 3.0
    num_copies: tuple[int, int] = (2, 48)

    def __post_init__(self):
        if self.num_hidden < 1 or self.steps < 0 or self.batch_size < 2 or min(self.num_copies) < 1:
            raise UsageError(
                "expected num_hidden ≥ 1, steps ≥ 0, a batch_size of at least 2 and num_copies of at least 1, got "
                f"{self.num_hidden}, {self.steps}, {self.batch_size}, {self.num_copies}"
            )
        if not (self.learning_rate > 0 and self.temperature > 0):
            raise UsageError(
                f"expected a learning_rate and a temperature above 0, got {self.learning_rate}, {self.temperature}"
            )
        if not 0 <= self.dropout < 1:
            raise UsageError(f"expected a dropout of 0 or more and below 1, got {self.dropout}")
        for name in ("plain_weight", "crowded_weight", "stay_weight", "tail_weight", "tail_from"):
            if not getattr(self, name) >= 0:
                raise UsageError(f"expected {name} of at least 0, got {getattr(self, name)}")
        for name in ("lengths", "plain_lengths"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise UsageError(f"expected {name} that rise from above 0, got {low}, {high}")

    def num_copies_of_plain(self, num_plain: int) -> int:
        """Distorted copies of each of `num_plain` pictures: fewer where pictures are many, which would take hours."""
        of_labelled, at_most = self.num_copies
        return min(max(_MOST_PLAIN_COPIES // num_plain, of_labelled), at_most)


_MOST_PLAIN_COPIES = 96_000  # of all plain pictures together


def concentrate(
    projection: NestedProjection,
    crowded: Copies,
    plain: Copies,
    config: ConcentrateConfig,
    *,
    seed: int = 0,
    show_progress_bar: bool = False,
) -> None:
    """Learn the correction of a fitted projection, in place; its linear map stays.

    Queries are uncut, documents cut, as in use. How far a labelled picture is moved is 1 less the cosine of its uncut
    embedding with that by the linear map alone. Raises `TrainingError` where the loss is no number.
    """
    torch.manual_seed(seed)
    linear, spread_D = _linear_map(projection), _spread(projection, crowded.pooled)
    # In units of the axes' spread, so that all are learned at one rate whatever the whitening.
    net = correction_net(crowded.pooled.shape[1], len(spread_D), projection.correction[1].out_features)
    optimizer = torch.optim.AdamW(net.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(config.steps, 1))

    def embed(pooled_BC: torch.Tensor) -> torch.Tensor:
        corrected_BD = net[-1](F.dropout(net[:-1](pooled_BC), config.dropout))
        return F.normalize(linear(pooled_BC) + corrected_BD * spread_D, dim=-1)

    for step in trange(config.steps, desc="concentrate", leave=False, disable=not show_progress_bar):
        chosen_B, chosen_P = (torch.randperm(len(copies.pooled))[: config.batch_size] for copies in (crowded, plain))
        crowded_BD, plain_PD = embed(crowded.pooled[chosen_B]), embed(plain.pooled[chosen_P])
        cut_BD, cut_PD = (
            hard_cut(full, torch.full((len(full),), _drawn(*lengths)))
            for full, lengths in ((crowded_BD, config.lengths), (plain_PD, config.plain_lengths))
        )
        documents_MD = torch.cat([cut_BD, cut_PD])
        queries_BD, queries_PD = (
            embed(copies.distorted[int(torch.randint(len(copies.distorted), ()))][chosen])
            for copies, chosen in ((crowded, chosen_B), (plain, chosen_P))
        )
        own_B = torch.arange(len(chosen_B))
        own_P = len(chosen_B) + torch.arange(len(chosen_P))
        find_crowded = F.cross_entropy(queries_BD @ documents_MD.T / config.temperature, own_B)
        find_plain = F.cross_entropy(queries_PD @ documents_MD.T / config.temperature, own_P)
        moved = 1 - F.cosine_similarity(crowded_BD, linear(crowded.pooled[chosen_B])).mean()
        tail = plain_PD[:, config.tail_from :].square().sum(1).mean()
        loss = (
            config.crowded_weight * find_crowded
            + config.plain_weight * find_plain
            + config.stay_weight * moved
            + config.tail_weight * tail
        )
        if not loss.isfinite():
            raise TrainingError(
                f"expected a finite loss of the projection's correction, got {loss.item()} at step {step}; lower the "
                "learning_rate of the stage `concentrate`"
            )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        net[-1].weight.mul_(spread_D[:, None])
        net[-1].bias.mul_(spread_D)
    projection.correction.load_state_dict(net.state_dict())


def _linear_map(projection: NestedProjection) -> nn.Linear:
    linear = nn.Linear(projection.in_features, projection.out_features)
    linear.load_state_dict({name: getattr(projection, name).detach() for name in ("weight", "bias")})
    return linear.requires_grad_(False)


@torch.no_grad()
def _spread(projection: NestedProjection, pooled_NC: torch.Tensor) -> torch.Tensor:
    """(D,): three standard deviations of each number by the linear map."""
    return 3 * F.linear(pooled_NC, projection.weight, projection.bias).std(0)


def _drawn(low: float, high: float) -> int:
    return round(math.exp(float(torch.empty(()).uniform_(math.log(low), math.log(high)))))
