"""Teaching the dimension predictor on frozen pooled vectors, through the soft cut and the asymmetric score."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from tqdm import trange

from retrieval.dimension import DimensionPredictor, soft_cut
from retrieval.errors import UsageError
from retrieval.network import EmbedderNetwork


@dataclass(frozen=True, kw_only=True)
class ShortenConfig:
    """Settings of the stage that teaches `d`.

    `budget`: the mean of `d` to keep, from both sides. `temperature` scales scores into logits; `cut_temperature` is
    τ of the soft cut, in numbers. `instance_weight`: weight of a picture finding itself first. `order_weight`
    asks that a picture made plainer or richer get a smaller or larger `d`, by a factor of at least `order_ratio`, for
    `num_ordered` of the pictures.
    """

    budget: float = 128.0
    steps: int = 400
    batch_size: int = 1024
    learning_rate: float = 2e-3
    temperature: float = 0.07
    cut_temperature: float = 8.0
    budget_weight: float = 4.0
    instance_weight: float = 3.0
    order_weight: float = 4.0
    order_ratio: float = 1.5
    num_ordered: int = 8192

    def __post_init__(self):
        if self.budget <= 0 or self.steps < 0:
            raise UsageError(f"expected a positive budget and steps ≥ 0, got {self.budget}, {self.steps}")


def shorten(
    network: EmbedderNetwork,
    pooled_NC: torch.Tensor,
    targets_N: torch.Tensor,
    ordered_3MC: torch.Tensor,
    config: ShortenConfig,
    *,
    seed: int = 0,
    show_progress_bar: bool = False,
) -> None:
    """Train `network.dimension` in place; everything else stays as it is.

    `pooled_NC` are pooled vectors of classes `targets_N`; `ordered_3MC` those of M pictures made plainer, as they are,
    and made richer. Queries are uncut, documents are cut: each query must find documents of its class among all in the
    batch, so a document that is cut too short and answers every query costs its place. Loss: cross entropy over the
    documents, as in Khosla et al. 2020, arXiv 2004.11362, eq. 2, and the same with the picture itself as the one to
    find; plus budget and order terms.
    """
    predictor = network.dimension
    with torch.no_grad():
        full_ND = F.normalize(network.projection(pooled_NC), dim=-1)
    optimizer = torch.optim.AdamW(predictor.parameters(), lr=config.learning_rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(config.steps, 1))
    generator = torch.Generator().manual_seed(seed)
    predictor.train()
    for _ in trange(config.steps, desc="shorten", leave=False, disable=not show_progress_bar):
        chosen = torch.randint(len(pooled_NC), (config.batch_size,), generator=generator)
        dims_B = predictor(pooled_NC[chosen])
        documents_BD = soft_cut(full_ND[chosen], dims_B, config.cut_temperature)
        scores_BB = full_ND[chosen] @ documents_BD.T / config.temperature
        same_BB = targets_N[chosen][:, None] == targets_N[chosen][None, :]
        instance_loss = F.cross_entropy(scores_BB, torch.arange(len(chosen)))
        itself = torch.eye(len(chosen), dtype=torch.bool)
        log_share_BB = scores_BB.masked_fill(itself, -torch.inf).log_softmax(1).masked_fill(itself, 0.0)
        positive_BB = (same_BB & ~itself).float()
        rank_loss = -((log_share_BB * positive_BB).sum(1) / positive_BB.sum(1).clamp_min(1)).mean()
        budget_loss = (dims_B.mean() / config.budget).log().square()
        picked = torch.randint(ordered_3MC.shape[1], (config.batch_size,), generator=generator)
        steps_2B = predictor(ordered_3MC[:, picked].flatten(0, 1)).log().unflatten(0, (3, -1)).diff(dim=0)
        order_loss = (math.log(config.order_ratio) - steps_2B).relu().square().mean()
        loss = (
            rank_loss
            + config.instance_weight * instance_loss
            + config.budget_weight * budget_loss
            + config.order_weight * order_loss
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    predictor.eval()
    calibrate(predictor, pooled_NC, config.budget)


@torch.no_grad()
def calibrate(predictor: DimensionPredictor, pooled_NC: torch.Tensor, budget: float) -> None:
    """Shift the predictor's last bias so that the mean of `d` over `pooled_NC` is `budget`, in place."""
    bias = predictor.net[-1].bias
    trained = bias.clone()
    low, high = -20.0, 20.0
    for _ in range(40):
        shift = (low + high) / 2
        bias.copy_(trained + shift)
        low, high = (shift, high) if predictor(pooled_NC).mean() < budget else (low, shift)
