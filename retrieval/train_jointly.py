"""Training embedder and ranker end to end: the ranking loss reaches the pixels.

Each step shows a few queries, each with some of the candidates that an index found for it, all augmented. One pass of
the network describes them all; the ranker orders each query's candidates, and beside its loss stands that of training
the embedder alone, over the same pictures. Every so often the candidates are looked up again: a round is over.
"""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from retrieval.datasets import LabelledImages
from retrieval.device import fast_autocast, resolve_device
from retrieval.extras import packages_for
from retrieval.network import EmbedderNetwork
from retrieval.pooled_vectors import pooled_vectors
from retrieval.training.ranker_examples import RankingExamples
from retrieval.training.ranking_losses import RANKING_LOSSES
from retrieval.training.schedule import drawn, warm_cosine

with packages_for("training", extra="train"):
    from retrieval.augment import Augment
    from retrieval.training import checkpoints
    from retrieval.training.joint_config import JointConfig
    from retrieval.training.joint_learner import JointLearner, shown_in, some_candidates, usable
    from retrieval.training.learner import Learner, parameter_groups
    from retrieval.training.represent import some_pictures
    from retrieval.training.train_config import TrainConfig

__all__ = ["JointConfig", "train_jointly"]

FindCandidates = Callable[[EmbedderNetwork], RankingExamples]
Validate = Callable[[EmbedderNetwork, nn.Module], dict[str, float]]
Report = Callable[[dict[str, float]], None]


def train_jointly(
    network: EmbedderNetwork,
    attention: nn.Module,
    training: LabelledImages,
    find_candidates: FindCandidates,
    config: JointConfig,
    out: Path,
    *,
    validate: Validate | None = None,
    device: str = "auto",
    report: Report | None = None,
    show_progress_bar: bool = False,
) -> tuple[EmbedderNetwork, nn.Module]:
    """Train both in place, from the checkpoint in `out` where there is one; they end with what validated best.

    `find_candidates` gives, for the network as it is, examples whose documents are the `training` pictures in their
    order, with `rows`, such as `labelled_examples` makes. `validate` measures both after every round, and before the
    first: its `val_map_at_100` chooses what is kept; without it the last weights are. `out` receives checkpoint.pt,
    best.pt, log.jsonl and TensorBoard events; `report` is called with each line of the log. Raises `TrainingError` when
    a number is none, or the checkpoint is of another run.
    """
    out.mkdir(parents=True, exist_ok=True)
    run = _JointRun(network, attention, training, config, out)
    run.to(resolve_device(device))
    pictures_N3HW = torch.from_numpy(training.pixels).permute(0, 3, 1, 2)
    targets_N, instances_N = torch.from_numpy(training.targets), torch.from_numpy(training.instances)
    augment = Augment(config.train_size, config.augment)

    def loss_of(lists: RankingExamples, step: int) -> torch.Tensor:
        # Every step draws from its own seed, so that a resumed run sees what an unbroken one would have seen.
        torch.manual_seed(config.seed * 1_000_003 + step)
        some = lists.take(drawn(len(lists), config.num_queries, step, config.seed))
        some = some.of_candidates(some_candidates(some, config.num_candidates, torch.default_generator))
        shown_B, widths = shown_in(some), run.model.learner.draw_widths()
        views_B3HW = augment(pictures_N3HW[shown_B].float().div_(255)).mul_(2).sub_(1)
        with fast_autocast(run.device):
            return run.model(
                views_B3HW.to(run.device, memory_format=torch.channels_last),
                targets_N[shown_B].to(run.device),
                instances_N[shown_B].to(run.device),
                widths,
                some.to(run.device),
            )

    def close_round(step: int, **figures: float) -> None:
        if validate is not None:
            run.model.eval()
            figures |= validate(network, attention)
        row = {"epoch": -(-step // config.refresh_steps), "step": step, **figures}
        log.line(**row)
        for name, value in figures.items():
            log.number(f"joint/{name}", value, step)
        run.close_round(step, figures.get("val_map_at_100"))
        if report is not None:
            report(row)

    with (
        checkpoints.Log(out, step=run.step, is_silent=False) as log,
        tqdm(total=config.steps, initial=max(0, run.step), desc="joint", disable=not show_progress_bar) as bar,
    ):
        if run.step < 0:
            close_round(0)
        while run.step < config.steps:
            # Every round begins with a checkpoint, so that a resumed run finds what an unbroken one has found.
            run.model.eval()
            lists = usable(find_candidates(network), config.num_candidates)
            run.model.train()
            steps = range(run.step, min(config.steps, run.step + config.refresh_steps))
            sum_of_losses = 0.0
            for step in steps:
                sum_of_losses += run.descend(loss_of(lists, step), step)
                bar.update()
            close_round(steps.stop, loss=sum_of_losses / len(steps))
    return run.best()


class _JointRun:
    """All of a run that changes with the steps; `step` is −1 until what it started with is validated."""

    def __init__(
        self, network: EmbedderNetwork, attention: nn.Module, training: LabelledImages, config: JointConfig, out: Path
    ):
        self.network, self.attention, self.config, self.out = network, attention, config, out
        self.step, self.best_map, self.device = -1, float("-inf"), torch.device("cpu")
        self.identity = {
            "settings": asdict(config),
            "weights to start from": [checkpoints.digest_of_weights(module) for module in (network, attention)],
            "training pictures": checkpoints.digest_of(training),
        }
        recipe = TrainConfig(
            image_size=network.config.image_size,
            train_size=config.train_size,
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
        )
        torch.manual_seed(config.seed)
        learner = Learner(network, recipe, len(training.classes))
        self.model = JointLearner(
            learner,
            attention,
            RANKING_LOSSES[config.loss],
            ranking_weight=config.ranking_weight,
            embedder_weight=config.embedder_weight,
            token_bytes=config.token_bytes,
        )
        factor = config.ranker_learning_rate / config.learning_rate
        of_ranker = {"params": [*attention.parameters()], "weight_decay": 1e-2, "lr_factor": factor}
        self.optimizer = torch.optim.AdamW([*parameter_groups(learner, recipe), of_ranker], lr=config.learning_rate)
        self.rate = warm_cosine(config.learning_rate, warmup=config.warmup_steps, total=config.steps)
        if not self._load():
            numbers = some_pictures(training)
            pooled_NC = pooled_vectors(network.eval(), training.pixels[numbers])
            learner.start_classes_at(pooled_NC, torch.from_numpy(training.targets[numbers]))

    def to(self, device: torch.device) -> None:
        self.device = device
        self.model.to(device)
        # The state of an optimizer follows its parameters when it is loaded.
        self.optimizer.load_state_dict(self.optimizer.state_dict())

    def descend(self, loss: torch.Tensor, step: int) -> float:
        """One step down the gradient; returns the loss."""
        value = checkpoints.finite("loss", loss, step, self.out)
        self.optimizer.zero_grad()
        loss.backward()
        gradient = nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        checkpoints.finite("gradient", gradient, step, self.out)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(step) * group["lr_factor"]
        self.optimizer.step()
        return value

    def close_round(self, step: int, map_at_100: float | None) -> None:
        """Keep the weights if they are the best so far, or nothing says which are; and save all."""
        self.step = step
        if map_at_100 is None or map_at_100 > self.best_map:
            self.best_map = self.best_map if map_at_100 is None else map_at_100
            best = {"network": self.network.state_dict(), "attention": self.attention.state_dict()}
            checkpoints.save_atomically(best, self.out / "best.pt")
        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), **self.identity}
        state |= {"step": self.step, "best_map": self.best_map}
        checkpoints.save_atomically(state, self.out / "checkpoint.pt")

    def best(self) -> tuple[EmbedderNetwork, nn.Module]:
        """Network and ranker, with the weights that are kept, on the CPU."""
        best = checkpoints.read(self.out / "best.pt")
        self.network.load_state_dict(best["network"])
        self.attention.load_state_dict(best["attention"])
        self.model.cpu().eval()
        return self.network, self.attention

    def _load(self) -> bool:
        path = self.out / "checkpoint.pt"
        if not path.exists():
            return False
        saved = checkpoints.read(path)
        checkpoints.refuse_other(path, saved, self.identity)
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.step, self.best_map = saved["step"], saved["best_map"]
        return True
