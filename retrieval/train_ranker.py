"""Training the ranker on a frozen embedder: lists of candidates in, the weights that proved best out."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from retrieval.device import resolve_device
from retrieval.errors import UsageError
from retrieval.extras import packages_for
from retrieval.training.ranker_examples import RankingExamples
from retrieval.training.ranker_train_config import RankerTrainConfig
from retrieval.training.ranking_losses import RANKING_LOSSES, RankingLoss, has_pair
from retrieval.training.rerank_metrics import Sets, as_sets, relevance_of, validate_ranker
from retrieval.training.schedule import drawn, warm_cosine

with packages_for("training", extra="train"):
    from retrieval.training import checkpoints

__all__ = ["RankerTrainConfig", "train_ranker"]

Report = Callable[[dict[str, float]], None]


def train_ranker(
    attention: nn.Module,
    training: Sets,
    validation: Sets,
    config: RankerTrainConfig,
    out: Path,
    *,
    shares: Sequence[float] | None = None,
    device: str = "auto",
    report: Report | None = None,
    show_progress_bar: bool = False,
) -> nn.Module:
    """Train a scoring layer such as `RelevanceAttention`, in place; it ends with the weights that validated best.

    Or with those of the last epoch, where the settings ask for them (`keep_end`). Of several sets of examples each has
    its part of `shares`, which sum to 1, in every step and in the loss, or an equal one; in the validation all are
    equal. The weights that it comes with count too (epoch 0): what is returned is never worse on `validation` than
    those. Goes on from the checkpoint in `out` where there is one, and ends with the same weights as an unbroken run.
    `out` receives checkpoint.pt, log.jsonl and TensorBoard events; `report` is called with the figures of each epoch.
    Returned on the CPU, ready for use. Raises `UsageError` where nothing teaches, or a part is none of the layer's,
    `TrainingError` when a number is none, or the checkpoint is of another run.
    """
    training, validation = _teaching(training), as_sets(validation)
    shares = [1 / len(training)] * len(training) if shares is None else [*shares]
    if len(shares) != len(training) or min(shares) <= 0 or not math.isclose(sum(shares), 1, rel_tol=1e-6):
        raise UsageError(f"expected {len(training)} shares above 0 that sum to 1, one for each set, got {shares}")
    if not validation or not all(bool((examples.num_relevant > 0).any()) for examples in validation):
        raise UsageError("expected validation queries to which something is relevant, got none; add pictures to find")
    trained = _trained_parameters(attention, config.parts)
    run = _Run(attention, torch.optim.AdamW(_parameter_groups(trained, config), lr=config.learning_rate))
    identity = {
        "settings": config.to_dict() | {"shares": shares},
        "weights to start from": checkpoints.digest_of_weights(attention),
        "training lists": [examples.digest() for examples in training],
        "validation lists": [examples.digest() for examples in validation],
    }
    out.mkdir(parents=True, exist_ok=True)
    run.load(out / "checkpoint.pt", identity)
    where = resolve_device(device)
    run.to(where)
    training, validation = ([examples.to(where) for examples in sets] for sets in (training, validation))

    num_queries = config.queries_per_epoch or sum(map(len, training))
    steps_per_epoch = max(1, num_queries // config.batch_size)
    num_steps = config.epochs * steps_per_epoch
    rate = warm_cosine(config.learning_rate, warmup=round(config.warmup * num_steps), total=num_steps)
    loss_of = RANKING_LOSSES[config.loss]

    def close(epoch: int, log: checkpoints.Log, **figures: float) -> None:
        """Validate, log, keep the weights if they are to be kept, and save."""
        step = epoch * steps_per_epoch
        figures |= validate_ranker(attention, validation, loss_of)
        checkpoints.finite("validation loss", torch.tensor(figures["val_loss"]), step, out)
        run.take(figures["val_map_at_100"], config)
        log.line(epoch=epoch, step=step, kept_epoch=run.kept_epoch, **figures)
        for name, value in figures.items():
            log.number(f"ranker/{name}", value, step)
        run.save(out / "checkpoint.pt", identity)
        if report is not None:
            report({"epoch": epoch, **figures})

    first_step = max(run.epoch, 0) * steps_per_epoch
    with (
        # A run that was killed before its first checkpoint has logged nothing that stays.
        checkpoints.Log(out, step=first_step if run.epoch >= 0 else -1, is_silent=False) as log,
        tqdm(total=num_steps, initial=first_step, desc="rank", disable=not show_progress_bar) as bar,
    ):
        if run.epoch < 0:
            close(0, log)
        while run.epoch < config.epochs and (config.keep_end or run.epoch - run.kept_epoch < config.patience):
            attention.train()
            sum_of_losses = 0.0
            for step in range(run.epoch * steps_per_epoch, (run.epoch + 1) * steps_per_epoch):
                loss = _loss_of_step(attention, training, shares, config, step, loss_of)
                sum_of_losses += checkpoints.finite("loss", loss, step, out)
                run.optimizer.zero_grad()
                loss.backward(inputs=trained)
                gradient = nn.utils.clip_grad_norm_(trained, config.clip_norm)
                checkpoints.finite("gradient", gradient, step, out)
                for group in run.optimizer.param_groups:
                    group["lr"] = rate(step)
                run.optimizer.step()
                bar.update()
            close(run.epoch + 1, log, loss=sum_of_losses / steps_per_epoch)
    attention.load_state_dict(run.kept)
    return attention.cpu().eval()


@dataclass
class _Run:
    """All of a run that changes from epoch to epoch; `epoch` is −1 until the weights it started with are validated."""

    attention: nn.Module
    optimizer: torch.optim.Optimizer
    maps: list[float] = field(default_factory=list)
    kept_epoch: int = 0
    kept: dict[str, torch.Tensor] = field(default_factory=dict)

    @property
    def epoch(self) -> int:
        return len(self.maps) - 1

    def take(self, map_at_100: float, config: RankerTrainConfig) -> None:
        """Note that an epoch is over, and keep its weights if they are to be kept."""
        self.maps.append(map_at_100)
        self.kept_epoch = config.kept_epoch(self.maps)
        if self.kept_epoch == self.epoch:
            self.kept = {name: value.detach().cpu().clone() for name, value in self.attention.state_dict().items()}

    def to(self, device: torch.device) -> None:
        self.attention.to(device)
        # The state of an optimizer follows its parameters when it is loaded.
        self.optimizer.load_state_dict(self.optimizer.state_dict())

    def save(self, path: Path, identity: dict) -> None:
        state = {"attention": self.attention.state_dict(), "optimizer": self.optimizer.state_dict(), **identity}
        own = {name: getattr(self, name) for name in _KEPT}
        checkpoints.save_atomically(state | own, path)

    def load(self, path: Path, identity: dict) -> None:
        """What `save` wrote, if there is a checkpoint; raises `TrainingError` for one of another run."""
        if not path.exists():
            return
        saved = checkpoints.read(path)
        checkpoints.refuse_other(path, saved, identity)
        self.attention.load_state_dict(saved["attention"])
        self.optimizer.load_state_dict(saved["optimizer"])
        for name in _KEPT:
            setattr(self, name, saved[name])


_KEPT = ("maps", "kept_epoch", "kept")
"""What a checkpoint holds of a run beside the weights and the optimizer."""


def _teaching(training: Sets) -> list[RankingExamples]:
    """Of each set the queries that have a pair to learn from; raises `UsageError` where a set has none."""
    sets = [examples.take(has_pair(examples.relevant, examples.counts)) for examples in as_sets(training)]
    if not sets or not all(map(len, sets)):
        raise UsageError(
            "expected training queries with a relevant and an irrelevant candidate, got none; "
            "add pictures, labels or judgments"
        )
    return sets


def _loss_of_step(
    attention: nn.Module,
    training: list[RankingExamples],
    shares: list[float],
    config: RankerTrainConfig,
    step: int,
    loss_of: RankingLoss,
) -> torch.Tensor:
    """The sum over the sets, by their shares; what is drawn of them follows from the seed and the step alone."""
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
    loss = torch.zeros((), device=training[0].candidates.device)
    for share, examples in zip(shares, training, strict=True):
        num_queries = max(1, round(share * config.batch_size))
        some = examples.take(drawn(len(examples), num_queries, step, config.seed))
        num_candidates = some.candidates.shape[1]
        if num_candidates > config.num_candidates:
            order_QK = torch.rand(some.candidates.shape, generator=generator).argsort(1)
            some = some.of_candidates(order_QK[:, : config.num_candidates].to(some.candidates.device))
        loss = loss + share * loss_of(relevance_of(attention, some), some.relevant, some.counts)
    return loss


def _trained_parameters(attention: nn.Module, parts: Sequence[str]) -> list[nn.Parameter]:
    """Those of the parts that are named, or all, but for frozen ones; raises `UsageError` for a name that is none."""
    own = dict(attention.named_children())
    if strangers := set(parts) - own.keys():
        raise UsageError(f"expected parts among {', '.join(own)}, got {', '.join(sorted(strangers))}")
    modules = [own[part] for part in parts] or [attention]
    trained = [parameter for module in modules for parameter in module.parameters() if parameter.requires_grad]
    if not trained:
        raise UsageError(f"expected weights to train, got none in {', '.join(parts) or 'the layer'}; name other parts")
    return trained


def _parameter_groups(trained: list[nn.Parameter], config: RankerTrainConfig) -> list[dict]:
    """Weights that multiply are decayed; biases, norms and scales are not."""
    decayed = [parameter for parameter in trained if parameter.ndim > 1]
    others = [parameter for parameter in trained if parameter.ndim <= 1]
    return [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
