"""Teaching the dimension predictor on frozen pooled vectors: who needs more numbers, who gets by with fewer."""

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import nn
from tqdm import trange

from retrieval.dimension import Bend, DimensionPredictor
from retrieval.energy_dimension import EnergyDimension, fit_share
from retrieval.errors import TrainingError, UsageError
from retrieval.training.candidates import candidate_scores, length_grid
from retrieval.training.recipes import RECIPES, Ground, RankingTerms


@dataclass(frozen=True, kw_only=True)
class ShortenConfig:
    """Settings of the stage that teaches `d`.

    Lengths start as those by energy kept, their logs drawn apart `energy_spread` times and none below `energy_floor` of
    the budget before all are shifted to it, learned in `energy_steps` at `energy_learning_rate`; then `steps` by
    `recipe`, one of `retrieval.training.recipes`, say who deserves more, while `energy_weight` asks them to stay near
    those by energy.
    `budget`: the mean of `d` to keep, from both sides; each step works at one of `budgets`, a range, so that lengths
    are right when the budget is moved later. `complexity_weight` asks that log d correlate with log bits a pixel by
    `complexity_correlation` at least. In the end a predictor with a `Bend` gets the slopes `bend`: below, between and
    above the quantiles `bend_at` of what it says of these pictures.
    `num_pictures`: how many of the pictures with labels, and of those without, to learn from at most; the time to find
    their candidates grows with its square.
    """

    recipe: str = "interpolated"
    budget: float = 112.0
    budgets: tuple[float, float] = (44.0, 144.0)
    energy_steps: int = 200
    energy_spread: float = 1.2
    energy_floor: float = 0.45
    energy_weight: float = 1.0
    energy_learning_rate: float = 2e-3
    steps: int = 300
    batch_size: int = 2048
    learning_rate: float = 3e-4
    weight_decay: float = 1e-2
    budget_weight: float = 20.0
    terms: RankingTerms = field(default_factory=RankingTerms)
    complexity_weight: float = 10.0
    complexity_correlation: float = 0.45
    bend_at: tuple[float, float] = (0.2, 0.97)
    bend: tuple[float, float, float] = (1.3, 0.2, 1.5)
    num_candidates: int = 64
    num_pictures: int = 24_000

    def __post_init__(self):
        if self.recipe not in RECIPES:
            raise UsageError(f"expected a recipe among {', '.join(RECIPES)}, got {self.recipe!r}")
        if self.budget <= 0 or min(self.steps, self.energy_steps) < 0:
            got = f"{self.budget}, {self.steps}, {self.energy_steps}"
            raise UsageError(f"expected a positive budget, steps ≥ 0 and energy_steps ≥ 0, got {got}")
        if not 0 < self.budgets[0] <= self.budgets[1]:
            raise UsageError(f"expected budgets that rise from above 0, got {self.budgets}")
        if self.batch_size < 1 or not min(self.learning_rate, self.energy_learning_rate) > 0:
            raise UsageError(
                f"expected a batch_size of at least 1 and learning rates above 0, got {self.batch_size}, "
                f"{self.learning_rate}, {self.energy_learning_rate}"
            )
        if not 0 <= self.energy_floor < 1:
            raise UsageError(f"expected an energy_floor of 0 or more and below 1, got {self.energy_floor}")
        if not (self.energy_spread >= 0 and self.energy_weight >= 0):
            got = f"{self.energy_spread}, {self.energy_weight}"
            raise UsageError(f"expected an energy_spread and an energy_weight of at least 0, got {got}")
        if not 0 <= self.bend_at[0] < self.bend_at[1] <= 1:
            raise UsageError(f"expected bend_at of two quantiles that rise within 0..1, got {self.bend_at}")
        if len(self.bend) != 3 or not all(slope > 0 for slope in self.bend):
            raise UsageError(f"expected a bend of three slopes above 0, which keep lengths in order, got {self.bend}")
        if self.num_pictures < 2:
            raise UsageError(f"expected at least 2 pictures to learn from, got {self.num_pictures}")


@torch.no_grad()
def prepare_ground(
    projection: nn.Module,
    pooled_NC: torch.Tensor,
    distorted_NC: torch.Tensor,
    targets_N: torch.Tensor,
    complexity_N: torch.Tensor,
    *,
    min_dim: int,
    max_dim: int,
    num_candidates: int = 64,
) -> Ground:
    """What `shorten` learns on; `distorted_NC` is of distorted copies, `complexity_N` is log bits a pixel."""
    full_ND, distorted_ND = (F.normalize(projection(pooled), dim=-1) for pooled in (pooled_NC, distorted_NC))
    own_N, lengths_G = torch.arange(len(full_ND)), length_grid(min_dim, max_dim)
    originals, kin = (
        candidate_scores(queries, full_ND, own_N, lengths_G, num_candidates=num_candidates, own_first=own_first)
        for queries, own_first in ((distorted_ND, True), (full_ND, False))
    )
    return Ground(
        pooled=pooled_NC,
        full=full_ND,
        distorted=distorted_ND,
        targets=targets_N,
        complexity=complexity_N,
        originals=originals,
        kin=kin,
    )


def shorten(
    predictor: DimensionPredictor,
    ground: Ground,
    config: ShortenConfig,
    *,
    seed: int = 0,
    show_progress_bar: bool = False,
) -> None:
    """Train `predictor` in place, its last layer anew, bend and shift it so that the mean of `d` is the budget.

    Queries are uncut, documents are cut: a document that is cut too short loses its own queries, and one that
    intrudes on others' costs them their place, so the loss weighs both. Raises `TrainingError` where the loss, or what
    is predicted in the end, is no number.
    """
    learn_from = RECIPES[config.recipe]
    shortest, longest = math.log(predictor.min_dim), math.log(predictor.max_dim)
    torch.manual_seed(seed)
    # A fresh predictor says one length for all, where correlation has no gradient to speak of but an infinite one.
    nn.init.normal_(predictor.net[-1].weight, std=1e-2)
    _straighten(predictor)
    calibrate(predictor, ground.pooled, config.budget)
    predictor.train()
    by_energy_N = _log_dims_by_energy(predictor, ground, config)
    _start_at(by_energy_N, predictor, ground, config)
    optimizer, schedule = _annealed(predictor, config.learning_rate, config.steps, config)
    for step in trange(config.steps, desc="shorten", leave=False, disable=not show_progress_bar):
        chosen_Q = torch.randperm(len(ground.pooled))[: config.batch_size]
        dims_N = predictor(ground.pooled)
        shift = float(torch.empty(()).uniform_(*map(math.log, config.budgets))) - math.log(config.budget)
        shifted_N = (dims_N.log() + shift).clamp(shortest, longest).exp()
        loss = learn_from(shifted_N, chosen_Q, ground, config.terms)
        loss = loss + config.budget_weight * (dims_N.mean() / config.budget).log().square()
        loss = loss + config.energy_weight * (dims_N.log() - by_energy_N).var(correction=0)
        if config.complexity_weight:
            follows = correlation(dims_N.log(), ground.complexity)
            loss = loss + config.complexity_weight * (config.complexity_correlation - follows).relu().square()
        _refuse_broken("loss of the lengths", loss, f"at step {step}")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    predictor.eval()
    _bend(predictor, ground.pooled, config)
    calibrate(predictor, ground.pooled, config.budget)
    with torch.no_grad():
        _refuse_broken("mean of the lengths", predictor(ground.pooled).mean(), "after the last step")


@torch.no_grad()
def _log_dims_by_energy(predictor: DimensionPredictor, ground: Ground, config: ShortenConfig) -> torch.Tensor:
    """(N,): logs of the lengths which keep one share of every picture's energy, at the budget, spread and floored.

    The correction has put nearly all energy of plain pictures into a few numbers, fewer than they are found by: hence
    the floor.
    """
    by_energy = EnergyDimension(min_dim=predictor.min_dim, max_dim=predictor.max_dim)
    budget = min(max(config.budget, predictor.min_dim), predictor.max_dim)
    fit_share(by_energy, ground.full, budget)
    log_dims_N = torch.cat([by_energy(block) for block in ground.full.split(_BLOCK)]).log()
    spread_N = log_dims_N.mean() + config.energy_spread * (log_dims_N - log_dims_N.mean())
    shortest = max(config.energy_floor * budget, predictor.min_dim)
    return spread_N.clamp(math.log(shortest), math.log(predictor.max_dim))


def _start_at(log_dims_N: torch.Tensor, predictor: DimensionPredictor, ground: Ground, config: ShortenConfig) -> None:
    """Regress log d onto `log_dims_N`, then shift it to the budget."""
    optimizer, schedule = _annealed(predictor, config.energy_learning_rate, config.energy_steps, config)
    for step in range(config.energy_steps):
        loss = (predictor(ground.pooled).log() - log_dims_N).square().mean()
        _refuse_broken("loss of the lengths", loss, f"at step {step} by energy", rate="energy_learning_rate")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    calibrate(predictor, ground.pooled, config.budget)


def _straighten(predictor: DimensionPredictor) -> None:
    if predictor.bend is not None:
        predictor.bend.load_state_dict(Bend().state_dict())


@torch.no_grad()
def _bend(predictor: DimensionPredictor, pooled_NC: torch.Tensor, config: ShortenConfig) -> None:
    """Draw the lengths between `bend_at` together and the outer ones apart, in place; their order stays.

    What a picture loses by a few numbers too few, another does not gain by as many more: where pictures hardly differ
    in what they need, they had better be of one length.
    """
    if predictor.bend is not None:
        need_N = predictor.need(pooled_NC)
        predictor.bend.knots.copy_(need_N.quantile(torch.tensor(config.bend_at, device=need_N.device)))
        predictor.bend.slopes.copy_(torch.tensor(config.bend))


def _annealed(
    predictor: DimensionPredictor, learning_rate: float, steps: int, config: ShortenConfig
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    optimizer = torch.optim.AdamW(predictor.parameters(), lr=learning_rate, weight_decay=config.weight_decay)
    return optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1))


_BLOCK = 8192


def _refuse_broken(name: str, value: torch.Tensor, when: str, *, rate: str = "learning_rate") -> None:
    if not value.isfinite():
        raise TrainingError(
            f"expected a finite {name}, got {value.item()} {when}; lower the {rate} of the stage `shorten`"
        )


def correlation(a_N: torch.Tensor, b_N: torch.Tensor) -> torch.Tensor:
    """Pearson's correlation of two series, −1..1, a scalar; differentiable."""
    a_N, b_N = a_N - a_N.mean(), b_N - b_N.mean()
    return F.cosine_similarity(a_N, b_N, dim=0)


@torch.no_grad()
def calibrate(predictor: DimensionPredictor, pooled_NC: torch.Tensor, budget: float) -> None:
    """Shift the predictor's level so that the mean of `d` over `pooled_NC` is `budget`, in place.

    Where no level gives that mean, the mean comes as near as the ends of `d` allow.
    """
    level = predictor.level
    trained = level.clone()
    low, high = -20.0, 20.0
    for _ in range(40):
        shift = (low + high) / 2
        level.copy_(trained + shift)
        low, high = (shift, high) if predictor(pooled_NC).mean() < budget else (low, shift)
