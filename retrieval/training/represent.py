"""The first stage of training: what pictures look like, from the last checkpoint to the end."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from retrieval.augment import Augment
from retrieval.datasets import LabelledImages
from retrieval.device import fast_autocast
from retrieval.distributed import Ranks
from retrieval.layers.norm import synchronise_batch_norms
from retrieval.metrics import retrieval_metrics
from retrieval.network import EmbedderNetwork
from retrieval.pixels.distort import distort
from retrieval.pooled_vectors import pooled_vectors
from retrieval.projection import fit_projection
from retrieval.training.checkpoints import (
    Log,
    Progress,
    finite,
    load_checkpoint,
    read,
    save_atomically,
    save_checkpoint,
)
from retrieval.training.learner import Learner, parameter_groups
from retrieval.training.sampling import Sampler
from retrieval.training.schedule import warm_cosine
from retrieval.training.train_config import TrainConfig


def represent(
    learner: Learner,
    config: TrainConfig,
    training: LabelledImages,
    validation: LabelledImages,
    out: Path,
    ranks: Ranks,
    *,
    show_progress_bar: bool,
) -> None:
    """Train `learner` in place, from its last checkpoint in `out`; it ends with the weights that validated best.

    One process of `ranks` writes and validates while the others wait. Raises `TrainingError` when the loss or its
    gradient is no longer a number, before it has reached the weights.
    """
    if ranks.size > 1:
        synchronise_batch_norms(learner)
    ema = None
    if config.ema_decay:
        ema = AveragedModel(learner.network, multi_avg_fn=averaging(config.ema_decay), use_buffers=True)
    optimizer = torch.optim.AdamW(parameter_groups(learner, config), lr=config.learning_rate)
    progress = Progress(learner, optimizer, ema)
    load_checkpoint(out / "checkpoint.pt", progress, config, training)

    model = ranks.parallel(learner)
    augment = Augment(config.train_size, config.augment)
    pictures_N3HW = torch.from_numpy(training.pixels).permute(0, 3, 1, 2)
    targets_N, instances_N = torch.from_numpy(training.targets), torch.from_numpy(training.instances)
    sampler = Sampler(training.targets, training.instances, config)
    steps_per_epoch = len(training) // config.batch_size
    num_steps = config.epochs * steps_per_epoch
    rate = learning_rate_schedule(config, steps_per_epoch)

    with (
        Log(out, step=progress.step, is_silent=not ranks.is_first) as log,
        tqdm(total=num_steps, initial=progress.step, desc="represent", disable=not show_progress_bar) as bar,
    ):
        seen, since = 0, time.perf_counter()
        for step in range(progress.step, num_steps):
            # Every step draws from its own seed, so that a resumed run sees what an unbroken one would have seen.
            seed = config.seed * 1_000_003 + step
            torch.manual_seed(seed)
            shown_B = sampler.pictures_of(step)
            widths = learner.draw_widths()
            # Up to here all processes draw alike; what each does to its own pictures, it draws for itself: changing the
            # whole batch everywhere would cost as much on every process as one process spends alone.
            torch.manual_seed(seed + (ranks.rank << 40))
            views_B3HW = augment(pictures_N3HW[ranks.part_of(shown_B)].float().div_(255)).mul_(2).sub_(1)

            learner.train()
            with fast_autocast(ranks.device):
                views_B3HW = views_B3HW.to(ranks.device, memory_format=torch.channels_last)
                targets_B, instances_B = (values_N[shown_B].to(ranks.device) for values_N in (targets_N, instances_N))
                loss = model(views_B3HW, targets_B, instances_B, widths)
            loss_value = finite("loss", loss, step, out)
            optimizer.zero_grad()
            loss.backward()
            finite("gradient", nn.utils.clip_grad_norm_(learner.parameters(), config.clip_norm), step, out)
            for group in optimizer.param_groups:
                group["lr"] = rate(step) * group["lr_factor"]
            optimizer.step()
            if ema is not None:
                ema.update_parameters(learner.network)

            progress.step = step + 1
            seen += len(shown_B)
            bar.update()
            bar.set_postfix(loss=f"{loss_value:.3f}", refresh=False)
            log.number("represent/loss", loss_value, step)
            epoch, is_epoch_end = divmod(progress.step, steps_per_epoch)
            is_last = progress.step == num_steps
            if is_last or (is_epoch_end == 0 and epoch % config.validate_every == 0):
                if ranks.is_first:
                    pace = seen / (time.perf_counter() - since)
                    recall = validate(progress.validated, training, validation)
                    log.line(
                        epoch=epoch, step=step + 1, loss=loss_value, val_recall_at_1=recall, images_per_second=pace
                    )
                    log.number("represent/val_recall_at_1", recall, step)
                    if recall > progress.best_recall:
                        progress.best_recall = recall
                        best = {"network": progress.validated.state_dict(), "recall": recall}
                        save_atomically(best, out / "best.pt")
                ranks.wait()
                seen, since = 0, time.perf_counter()
            if ranks.is_first and (is_last or progress.step % config.checkpoint_steps == 0):
                save_checkpoint(out / "checkpoint.pt", progress, config, training)
    if ranks.is_first:
        best = read(out / "best.pt")
        learner.network.load_state_dict(best["network"])
    ranks.share(learner.network)


def averaging(decay: float) -> Callable[[list, list, torch.Tensor | int], None]:
    """An exponential average for `AveragedModel`, shorter at first, so that short runs forget their random start."""

    def average(averaged: list[torch.Tensor], current: list[torch.Tensor], num_averaged: torch.Tensor | int) -> None:
        num = int(num_averaged)
        get_ema_multi_avg_fn(min(decay, (1 + num) / (10 + num)))(averaged, current, num_averaged)

    return average


def learning_rate_schedule(config: TrainConfig, steps_per_epoch: int) -> Callable[[int], float]:
    """Linear warm-up, then half a cosine down to a hundredth."""
    warmup = round(config.warmup_epochs * steps_per_epoch)
    return warm_cosine(config.learning_rate, warmup=warmup, total=config.epochs * steps_per_epoch)


@torch.no_grad()
def validate(network: EmbedderNetwork, training: LabelledImages, validation: LabelledImages) -> float:
    """Recall@1 in percent on `validation`, at 128 numbers of a projection fitted on part of `training`.

    What is to be found: a picture of the same class; where there are no classes, one of the same group; where no group
    has two pictures, the original of a distorted copy.
    """
    num_dims = min(128, network.config.num_dims)
    projection = nn.Linear(network.config.num_pooled, num_dims)  # on the CPU, as pooled vectors are
    fit_projection(projection, pooled_vectors(network, training.pixels[some_pictures(training)]))

    def encode(pixels_NHW3: np.ndarray) -> torch.Tensor:
        return F.normalize(projection(pooled_vectors(network, pixels_NHW3)), dim=-1)

    gallery_ND, instances_N = encode(validation.pixels), validation.instances
    if validation.classes:
        queries_ND, answers_N, exclude_self = gallery_ND, validation.labels, True
    elif len(np.unique(instances_N)) < len(instances_N):
        queries_ND, answers_N, exclude_self = gallery_ND, instances_N, True
    else:
        queries_ND, answers_N, exclude_self = encode(distort(validation.pixels)), instances_N, False
    metrics = retrieval_metrics(queries_ND, gallery_ND, answers_N, answers_N, exclude_self=exclude_self, ks=(1,))
    return metrics.recall_at(1)


def some_pictures(images: LabelledImages) -> np.ndarray:
    """Numbers of 8,192 to 16,383 pictures at even steps, or of all where there are fewer.

    Only labelled ones are counted and taken where there are any.
    """
    targets = images.targets
    (labelled,) = np.nonzero(targets >= 0)
    numbers = labelled if len(labelled) else np.arange(len(targets))
    return numbers[:: max(1, len(numbers) // 8192)]
