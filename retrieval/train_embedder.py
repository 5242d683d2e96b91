"""Training the embedder: first what pictures look like, then the projection's axes, then how many of them each needs.

    represent        nested cosine softmax over the classes, and each picture told apart from all others
    fit_projection   the projection becomes the part-whitened principal axes of the pooled vectors
    shorten          the dimension predictor learns through the soft cut, under a budget on the mean

The first stage takes nearly all the time and resumes from its last checkpoint; the others take minutes.
"""

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from retrieval.augment import PLAINER, RICHER, Augment, AugmentConfig, change
from retrieval.coatnet import CONFIGS
from retrieval.datasets import LabelledImages
from retrieval.device import fast_autocast, resolve_device
from retrieval.errors import MissingExtraError, TrainingError, UsageError
from retrieval.losses import NestedSoftmax
from retrieval.metrics import retrieval_metrics
from retrieval.network import EmbedderConfig, EmbedderNetwork
from retrieval.projection import fit_projection, pooled_vectors
from retrieval.shorten import ShortenConfig, shorten

try:
    from pytorch_metric_learning.losses import NTXentLoss
    from torch.utils.tensorboard import SummaryWriter
except ImportError as error:
    raise MissingExtraError(
        f"expected the packages for training, found them incomplete ({error}); "
        "pip install 'spyglass-image-search[train]'"
    ) from None


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Settings of one training run.

    `train_size`: side in pixels of the augmented crops; `image_size`: side of the pictures in use, larger, since crops
    make things look larger (Touvron et al. 2019, arXiv 1906.06423). `batch_size` counts views, `views` a picture; an
    epoch shows as many views as there are pictures. `instance_weight`: weight of telling pictures apart, which takes
    two views or more.
    """

    backbone: str = "coatnet_mini"
    pooling: str = "sigmoid"
    attention: str = "pre"
    train_size: int = 64
    image_size: int = 96
    epochs: int = 18
    batch_size: int = 128
    views: int = 2
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.05
    warmup_epochs: float = 1.0
    drop_path: float = 0.05
    instance_weight: float = 0.5
    clip_norm: float = 5.0
    checkpoint_steps: int = 150
    validate_every: int = 2
    seed: int = 0
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    shorten: ShortenConfig = field(default_factory=ShortenConfig)

    def __post_init__(self):
        if self.backbone not in CONFIGS:
            raise UsageError(f"expected a backbone among {', '.join(sorted(CONFIGS))}, got {self.backbone!r}")
        if self.views < 1 or self.batch_size < 2 * self.views or self.batch_size % self.views:
            raise UsageError(
                f"expected a batch_size of at least two pictures' {self.views} views, got {self.batch_size}"
            )
        if self.instance_weight and self.views < 2:
            raise UsageError(f"expected two views or more to tell pictures apart by, got {self.views}")
        if self.epochs < 1:
            raise UsageError(f"expected at least one epoch, got {self.epochs}")

    def to_dict(self) -> dict:
        """Plain values, for checkpoints and config.json."""
        return asdict(self)

    @property
    def embedder(self) -> EmbedderConfig:
        base = CONFIGS[self.backbone]
        transformer = replace(base.transformer, attention=self.attention)
        backbone = replace(base, transformer=transformer, drop_path=self.drop_path, image_size=self.train_size)
        return EmbedderConfig(backbone=backbone, pooling=self.pooling, image_size=self.image_size)


class Learner(nn.Module):
    """The network with what only the first stage needs: class vectors, and a map that tells pictures apart."""

    def __init__(self, config: TrainConfig, num_classes: int):
        super().__init__()
        self.network = EmbedderNetwork(config.embedder)
        self.widths = self.network.config.widths
        self.instance_weight = config.instance_weight
        self.classify = NestedSoftmax(self.network.config.num_dims, num_classes)
        self.view = nn.Linear(self.network.backbone.num_channels, 128)
        self.tell_apart = NTXentLoss(temperature=0.15)

    def forward(self, pixels_B3HW: torch.Tensor, targets_B: torch.Tensor, pictures_B: torch.Tensor) -> torch.Tensor:
        """The loss of one batch of views; `pictures_B` numbers the picture that each view shows."""
        pooled_BC, _ = self.network.pool(pixels_B3HW)
        random_width = int(torch.randint(self.widths[0], self.widths[-1] + 1, ()))
        # Logits reach the inverse of the temperature, where bfloat16 is too coarse.
        with torch.autocast(pixels_B3HW.device.type, enabled=False):
            loss = self.classify(self.network.projection(pooled_BC), targets_B, (*self.widths, random_width))
            if self.instance_weight:
                loss = loss + self.instance_weight * self.tell_apart(self.view(pooled_BC), pictures_B)
        return loss


def train(
    config: TrainConfig,
    training: LabelledImages,
    validation: LabelledImages,
    out: Path,
    *,
    device: str = "auto",
    show_progress_bar: bool = False,
) -> EmbedderNetwork:
    """Train an embedder, resuming from the checkpoint in `out` where there is one; returns the network, ready for use.

    Both sets hold pixels of `config.image_size` squared. `out` receives checkpoint.pt, best.pt, log.jsonl and
    TensorBoard events. Raises `TrainingError` when the loss is no longer a number, or the checkpoint is of another run.
    """
    for name, images in (("training", training), ("validation", validation)):
        if images.pixels.shape[1] != config.image_size:
            raise UsageError(f"expected {name} pictures of {config.image_size} px, got {images.pixels.shape[1]}")
        if len(images.classes) < 2:
            raise UsageError(f"expected {name} pictures of at least two classes, got {len(images.classes)}")
    if len(training) < config.batch_size:
        raise UsageError(f"expected at least one batch of {config.batch_size} training pictures, got {len(training)}")
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    learner = Learner(config, len(training.classes)).to(resolve_device(device), memory_format=torch.channels_last)
    represent(learner, config, training, validation, out, show_progress_bar=show_progress_bar)

    shape_embedding(learner.network, config, training, show_progress_bar=show_progress_bar)
    return learner.network.eval()


def shape_embedding(
    network: EmbedderNetwork, config: TrainConfig, training: LabelledImages, *, show_progress_bar: bool = False
) -> None:
    """The last two stages, in place and on the CPU: fit the projection, then teach the dimension predictor."""
    pooled_NC = pooled_vectors(network, training.pixels, show_progress_bar=show_progress_bar)
    ordered_3MC = ordered_by_complexity(network, training, config)
    network.cpu()
    fit_projection(network.projection, pooled_NC)
    targets_N = torch.from_numpy(training.targets)
    shorten(
        network,
        pooled_NC,
        targets_N,
        ordered_3MC,
        config.shorten,
        seed=config.seed,
        show_progress_bar=show_progress_bar,
    )


def ordered_by_complexity(network: EmbedderNetwork, training: LabelledImages, config: TrainConfig) -> torch.Tensor:
    """(3, M, C): pooled vectors of some of the pictures made plainer, as they are, and made richer."""
    torch.manual_seed(config.seed)
    pixels = training.pixels[torch.randperm(len(training))[: config.shorten.num_ordered].numpy()]
    changes = (partial(change, ways=PLAINER), None, partial(change, ways=RICHER))
    return torch.stack([pooled_vectors(network, pixels, change=each) for each in changes])


def represent(
    learner: Learner,
    config: TrainConfig,
    training: LabelledImages,
    validation: LabelledImages,
    out: Path,
    *,
    show_progress_bar: bool,
) -> None:
    """The first stage, from its last checkpoint to its end; `learner` ends with the weights that validated best."""
    optimizer = torch.optim.AdamW(parameter_groups(learner, config.weight_decay), lr=config.learning_rate)
    augment = Augment(config.train_size, config.augment)
    pictures_N3HW = torch.from_numpy(training.pixels).permute(0, 3, 1, 2)
    targets_N = torch.from_numpy(training.targets)
    device = learner.view.weight.device
    steps_per_epoch = len(training) // config.batch_size
    num_steps = config.epochs * steps_per_epoch
    rate = learning_rate_schedule(config, steps_per_epoch)
    start, best_recall = load_checkpoint(out / "checkpoint.pt", learner, optimizer, config)

    with (
        SummaryWriter(out) as board,
        tqdm(total=num_steps, initial=start, desc="represent", disable=not show_progress_bar) as bar,
    ):
        seen, since = 0, time.perf_counter()
        for step in range(start, num_steps):
            # Every step draws from its own seed, so that a resumed run sees what an unbroken one would have seen.
            torch.manual_seed(config.seed * 1_000_003 + step)
            chosen = picture_numbers(len(training), step, config)
            views_B3HW = augment(pictures_N3HW[chosen].float().div_(255)).mul_(2).sub_(1)
            for group in optimizer.param_groups:
                group["lr"] = rate(step)
            learner.train()
            with fast_autocast(device):
                views_B3HW = views_B3HW.to(device, memory_format=torch.channels_last)
                loss = learner(views_B3HW, targets_N[chosen].to(device), chosen.to(device))
            if not math.isfinite(loss.item()):
                raise TrainingError(
                    f"expected a finite loss, got {loss.item()} at step {step}; the last good weights are in "
                    f"{out / 'checkpoint.pt'}: run again with a lower learning rate, or into an empty folder"
                )
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(learner.parameters(), config.clip_norm)
            optimizer.step()

            seen += len(chosen)
            bar.update()
            bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
            board.add_scalar("represent/loss", loss.item(), step)
            epoch, is_epoch_end = divmod(step + 1, steps_per_epoch)
            is_last = step + 1 == num_steps
            if is_last or (is_epoch_end == 0 and epoch % config.validate_every == 0):
                recall = validate(learner.network, training, validation)
                rate_seen = seen / (time.perf_counter() - since)
                log(
                    out,
                    epoch=epoch,
                    step=step + 1,
                    loss=loss.item(),
                    val_recall_at_1=recall,
                    images_per_second=rate_seen,
                )
                board.add_scalar("represent/val_recall_at_1", recall, step)
                if recall > best_recall:
                    best_recall = recall
                    save_atomically({"network": learner.network.state_dict(), "recall": recall}, out / "best.pt")
                seen, since = 0, time.perf_counter()
            if is_last or (step + 1) % config.checkpoint_steps == 0:
                save_checkpoint(out / "checkpoint.pt", learner, optimizer, config, step + 1, best_recall)
    best = torch.load(out / "best.pt", weights_only=True, map_location="cpu")
    learner.network.load_state_dict(best["network"])


def picture_numbers(num_pictures: int, step: int, config: TrainConfig) -> torch.Tensor:
    """(B,) int64: the pictures of a step, `config.views` times each; all come up before one returns."""
    num_fresh = config.batch_size // config.views
    steps_a_round = num_pictures // num_fresh
    round_, place = divmod(step, steps_a_round)
    order = torch.randperm(num_pictures, generator=torch.Generator().manual_seed(config.seed + round_))
    return order[place * num_fresh : (place + 1) * num_fresh].repeat(config.views)


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict]:
    """Weights that multiply are decayed; biases, norms and tables are not."""
    decayed = [p for name, p in module.named_parameters() if p.ndim > 1 and "relative_position" not in name]
    known = set(map(id, decayed))
    rest = [p for p in module.parameters() if id(p) not in known]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]


def learning_rate_schedule(config: TrainConfig, steps_per_epoch: int) -> Callable[[int], float]:
    """Linear warm-up, then half a cosine down to a hundredth."""
    warmup = max(1, round(config.warmup_epochs * steps_per_epoch))
    total = config.epochs * steps_per_epoch

    def rate(step: int) -> float:
        if step < warmup:
            return config.learning_rate * (step + 1) / warmup
        progress = (step - warmup) / max(1, total - warmup)
        return config.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))

    return rate


@torch.no_grad()
def validate(network: EmbedderNetwork, training: LabelledImages, validation: LabelledImages) -> float:
    """Recall@1 in percent on `validation`, at 128 numbers of a projection fitted on part of `training`."""
    num_dims = min(128, network.config.num_dims)
    projection = nn.Linear(network.backbone.num_channels, num_dims)  # on the CPU, as pooled vectors are
    part = slice(None, None, max(1, len(training) // 8192))
    fit_projection(projection, pooled_vectors(network, training.pixels[part]))
    vectors_ND = F.normalize(projection(pooled_vectors(network, validation.pixels)), dim=-1)
    metrics = retrieval_metrics(
        vectors_ND, vectors_ND, validation.labels, validation.labels, exclude_self=True, ks=(1,)
    )
    return metrics.recall_at(1)


def load_checkpoint(
    path: Path, learner: Learner, optimizer: torch.optim.Optimizer, config: TrainConfig
) -> tuple[int, float]:
    """The step to go on from and the best Recall@1 so far: (0, −1) where there is no checkpoint."""
    if not path.exists():
        return 0, -1.0
    saved = torch.load(path, weights_only=True, map_location="cpu")
    if saved["config"] != config.to_dict():
        changed = sorted(key for key, value in config.to_dict().items() if saved["config"].get(key) != value)
        raise TrainingError(
            f"expected a checkpoint of this run in {path}, got one with other {', '.join(changed)}; "
            "give the same settings to go on with it, or another folder to start anew"
        )
    learner.load_state_dict(saved["learner"])
    optimizer.load_state_dict(saved["optimizer"])
    return saved["step"], saved["best_recall"]


def save_checkpoint(
    path: Path, learner: Learner, optimizer: torch.optim.Optimizer, config: TrainConfig, step: int, best_recall: float
) -> None:
    """Everything that `load_checkpoint` needs, replaced in one move: a kill leaves the one before."""
    state = {
        "learner": learner.state_dict(),
        "optimizer": optimizer.state_dict(),
        "config": config.to_dict(),
        "step": step,
        "best_recall": best_recall,
    }
    save_atomically(state, path)


def save_atomically(state: dict, path: Path) -> None:
    part = path.with_suffix(".part")
    torch.save(state, part)
    os.replace(part, path)


def log(out: Path, **values) -> None:
    """One line of JSON at the end of log.jsonl."""
    with open(out / "log.jsonl", "a") as file:
        file.write(json.dumps({key: round(value, 4) for key, value in values.items()}) + "\n")
