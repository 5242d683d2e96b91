"""Teaching the dimension predictor on frozen pooled vectors: who needs more numbers, who gets by with fewer."""

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import nn
from tqdm import trange

from retrieval.candidates import candidate_scores, length_grid
from retrieval.dimension import DimensionPredictor
from retrieval.errors import UsageError
from retrieval.recipes import RECIPES, Ground, RankingTerms


@dataclass(frozen=True, kw_only=True)
class ShortenConfig:
    """Settings of the stage that teaches `d`.

    `recipe`: one of `retrieval.recipes`. `budget`: the mean of `d` to keep, from both sides; each step works at a
    budget up to `budget_spread` times smaller or larger, so that lengths keep their order when the budget is moved.
    `order_weight` asks that a picture made plainer or richer get a smaller or larger `d`, by a factor of at least
    `order_ratio`, for `num_ordered` of the pictures.
    """

    recipe: str = "interpolated"
    budget: float = 128.0
    budget_spread: float = 1.6
    steps: int = 300
    batch_size: int = 4096
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    budget_weight: float = 20.0
    num_candidates: int = 64
    terms: RankingTerms = field(default_factory=RankingTerms)
    order_weight: float = 1.0
    order_ratio: float = 1.5
    num_ordered: int = 4096

    def __post_init__(self):
        if self.recipe not in RECIPES:
            raise UsageError(f"expected a recipe among {', '.join(RECIPES)}, got {self.recipe!r}")
        if self.budget <= 0 or self.steps < 0:
            raise UsageError(f"expected a positive budget and steps ≥ 0, got {self.budget}, {self.steps}")
        if self.budget_spread < 1:
            raise UsageError(f"expected a budget_spread of at least 1, got {self.budget_spread}")


@torch.no_grad()
def prepare_ground(
    projection: nn.Linear,
    pooled_NC: torch.Tensor,
    distorted_NC: torch.Tensor,
    targets_N: torch.Tensor,
    ordered_3MC: torch.Tensor,
    *,
    min_dim: int,
    max_dim: int,
    num_candidates: int = 64,
) -> Ground:
    """What `shorten` learns on: pooled vectors of pictures and of distorted copies, and the tables made of them."""
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
        ordered=ordered_3MC,
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
    """Train `predictor` in place, then set its bias so that the mean of `d` over the pictures is the budget.

    Queries are uncut, documents are cut: a document that is cut too short loses its own queries, and one that
    intrudes on others' costs them their place, so the loss weighs both.
    """
    learn_from = RECIPES[config.recipe]
    optimizer = torch.optim.AdamW(predictor.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(config.steps, 1))
    shortest, longest = math.log(predictor.min_dim), math.log(predictor.max_dim)
    torch.manual_seed(seed)
    calibrate(predictor, ground.pooled, config.budget)
    predictor.train()
    for _ in trange(config.steps, desc="shorten", leave=False, disable=not show_progress_bar):
        chosen_Q = torch.randperm(len(ground.pooled))[: config.batch_size]
        dims_N = predictor(ground.pooled)
        shift = math.log(config.budget_spread) * float(torch.empty(()).uniform_(-1, 1))
        shifted_N = (dims_N.log() + shift).clamp(shortest, longest).exp()
        loss = learn_from(shifted_N, chosen_Q, ground, config.terms)
        loss = loss + config.budget_weight * (dims_N.mean() / config.budget).log().square()
        if config.order_weight:
            picked = torch.randint(ground.ordered.shape[1], (1024,))
            steps_2B = predictor(ground.ordered[:, picked].flatten(0, 1)).log().unflatten(0, (3, -1)).diff(dim=0)
            loss = loss + config.order_weight * (math.log(config.order_ratio) - steps_2B).relu().square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    predictor.eval()
    calibrate(predictor, ground.pooled, config.budget)


@torch.no_grad()
def calibrate(predictor: DimensionPredictor, pooled_NC: torch.Tensor, budget: float) -> None:
    """Shift the predictor's last bias so that the mean of `d` over `pooled_NC` is `budget`, in place.

    Where no bias gives that mean, the mean comes as near as the ends of `d` allow.
    """
    bias = predictor.net[-1].bias
    trained = bias.clone()
    low, high = -20.0, 20.0
    for _ in range(40):
        shift = (low + high) / 2
        bias.copy_(trained + shift)
        low, high = (shift, high) if predictor(pooled_NC).mean() < budget else (low, shift)
