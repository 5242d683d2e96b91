"""Training the embedder: first what pictures look like, then the projection's axes, then how many of them each needs.

    represent        a loss nested over the classes, and each picture told apart from all others
    with_new_heads   backbone and pooling get fresh heads, which read statistics of earlier stages as well
    fit_axes         the projection becomes the principal axes of the pooled vectors, less what must not tell them apart
    concentrate      where those without labels are plain, a correction of the projection lets them do with few numbers
    shorten          the dimension predictor learns who needs more of them, under a budget on the mean

The first stage takes nearly all the time and resumes from its last checkpoint; the others take minutes.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from retrieval import distributed
from retrieval.coatnet import CoAtNet
from retrieval.datasets import LabelledImages
from retrieval.energy_dimension import check_budget
from retrieval.errors import TrainingError, UsageError
from retrieval.extras import packages_for
from retrieval.network import EmbedderNetwork
from retrieval.pixels.complexity import complexity
from retrieval.pixels.distort import distort
from retrieval.pooled_vectors import pooled_vectors
from retrieval.projection import fit_projection, fit_projection_against
from retrieval.training.concentrate import concentrate
from retrieval.training.fit_tokens import fit_tokens, local_features
from retrieval.training.nuisance import Copies, nuisance_covariance, picture_covariance
from retrieval.training.shorten import prepare_ground, shorten
from retrieval.training.train_config import TrainConfig

with packages_for("training", extra="train"):
    from retrieval.training.learner import Learner
    from retrieval.training.represent import represent, some_pictures

__all__ = ["TrainConfig", "network_with", "train"]


def train(
    config: TrainConfig,
    training: LabelledImages,
    validation: LabelledImages,
    out: Path,
    *,
    start_from: EmbedderNetwork | None = None,
    device: str = "auto",
    show_progress_bar: bool = False,
) -> EmbedderNetwork:
    """Train an embedder, resuming from the checkpoint in `out` where there is one; returns the network, ready for use.

    Both sets hold pixels of `config.image_size` squared. Training pictures may lack labels, some or all: those
    teach by being told apart. `start_from` gives the weights of backbone and pooling, and with them their shape,
    whatever `config` says of it; it is not changed itself. `out` receives checkpoint.pt, best.pt, log.jsonl and
    TensorBoard events; with 0 epochs nothing, and the returned network keeps backbone and pooling of `start_from`.
    Under `torchrun` the processes share the work, and each returns the same network. Raises `TrainingError` when the
    loss is no longer a number, or the checkpoint is of another run.
    """
    check_sets(config, training, validation)
    if start_from is None and not config.epochs:
        raise UsageError("expected a network to start from with 0 epochs, got none; give start_from")
    if not config.epochs and (out / "checkpoint.pt").exists():
        raise TrainingError(f"expected a folder without a checkpoint for 0 epochs, got that of a training in {out}")
    out.mkdir(parents=True, exist_ok=True)
    with distributed.join(device) as ranks:
        show_progress_bar = show_progress_bar and ranks.is_first
        torch.manual_seed(config.seed)
        learner = new_learner(config, training, start_from).to(ranks.device, memory_format=torch.channels_last)
        check_budget(learner.network.dimension, config.shorten.budget)
        if config.epochs:
            if start_from is not None and not (out / "checkpoint.pt").exists():
                fit_heads(learner, training)
            represent(learner, config, training, validation, out, ranks, show_progress_bar=show_progress_bar)
        network = with_new_heads(learner.network, config)
        if ranks.is_first:
            shape_embedding(network, config, training, show_progress_bar=show_progress_bar)
        ranks.share(network)
    return network.cpu().eval()


def check_sets(config: TrainConfig, training: LabelledImages, validation: LabelledImages) -> None:
    """Raise `UsageError` for sets that cannot be trained or validated on with these settings."""
    for name, images in (("training", training), ("validation", validation)):
        if images.pixels.shape[1] != config.image_size:
            raise UsageError(f"expected {name} pictures of {config.image_size} px, got {images.pixels.shape[1]}")
        if len(images.classes) == 1:
            raise UsageError(f"expected {name} pictures of at least two classes, got 1")
    if validation.classes and np.unique(validation.targets[validation.targets >= 0], return_counts=True)[1].max() < 2:
        raise UsageError("expected two validation pictures of one class or more, got one of each; add pictures to find")
    if config.epochs and not training.classes and not config.instance_weight:
        raise UsageError("expected labels, or an instance_weight to learn without them by, got neither")
    if config.plain_unlabelled and not ((training.targets >= 0).any() and (training.targets < 0).any()):
        raise UsageError(
            "expected pictures with labels and plain ones without for plain_unlabelled, got one kind alone"
        )
    if config.epochs and len(training) < config.batch_size:
        raise UsageError(f"expected at least one batch of {config.batch_size} training pictures, got {len(training)}")


def new_learner(config: TrainConfig, training: LabelledImages, start_from: EmbedderNetwork | None) -> Learner:
    """A fresh network, or one with the backbone and pooling to start from, and fresh heads."""
    if start_from is None:
        network = EmbedderNetwork(config.embedder)
    else:
        # Bias tables are resized as they are read, so the backbone keeps the size that they were made for.
        token_dim = min(config.token_dim, start_from.backbone.num_channels)
        shape = replace(
            start_from.config,
            image_size=config.image_size,
            dimension="learned",
            token_dim=token_dim,
            projection_hidden=0,
            statistics_of=(),
            bent_lengths=False,
        )
        network = EmbedderNetwork(shape)
        network.backbone.load_state_dict(start_from.backbone.state_dict())
        network.pooling.load_state_dict(start_from.pooling.state_dict())
    return Learner(network, config, len(training.classes))


def network_with(backbone: CoAtNet, config: TrainConfig) -> EmbedderNetwork:
    """A network to start from whose backbone has the weights of a pretrained one, without its classifier."""
    transformer = replace(backbone.config.transformer, attention=config.attention)
    shape = replace(backbone.config, transformer=transformer, drop_path=config.drop_path, num_classes=0)
    network = EmbedderNetwork(replace(config.embedder, backbone=shape))
    weights = backbone.state_dict()
    network.backbone.load_state_dict({name: weights[name] for name in weights if not name.startswith("head.fc.")})
    return network


def fit_heads(learner: Learner, training: LabelledImages) -> None:
    """Fit projection and class vectors to a trained backbone, in place: random ones would spoil it at first."""
    numbers = some_pictures(training)
    pooled_NC = pooled_vectors(learner.network, training.pixels[numbers])
    fit_projection(learner.network.projection, pooled_NC)
    learner.start_classes_at(pooled_NC, torch.from_numpy(training.targets[numbers]))


def with_new_heads(network: EmbedderNetwork, config: TrainConfig) -> EmbedderNetwork:
    """A network around backbone and pooling of one that was trained, shared with it, and fresh heads to be shaped."""
    stages = tuple(stage for stage in config.statistics_of if stage < len(network.config.backbone.channels))
    # From the seed again: a run that was resumed at its end has drawn nothing since.
    torch.manual_seed(config.seed)
    shape = replace(network.config, statistics_of=stages, projection_hidden=config.projection_hidden, bent_lengths=True)
    fresh = EmbedderNetwork(shape, network.backbone)
    fresh.pooling = network.pooling
    return fresh.to(next(network.parameters()).device)


def shape_embedding(
    network: EmbedderNetwork, config: TrainConfig, training: LabelledImages, *, show_progress_bar: bool = False
) -> None:
    """The stages after the first, in place and on the CPU: axes, their correction, then who needs how many of them."""
    most, num_copies = config.shorten.num_pictures, config.concentrate.num_copies[0]
    labelled, unlabelled = (some_of(np.flatnonzero(has), most) for has in (training.targets >= 0, training.targets < 0))
    has_plain = bool(network.config.projection_hidden and len(labelled) and len(unlabelled))
    num_of_unlabelled = config.concentrate.num_copies_of_plain(len(unlabelled)) if has_plain else num_copies
    parts = [part for part in (labelled, unlabelled) if len(part)]
    numbers = np.concatenate(parts)
    fit_tokens_and_statistics(network, training.pixels[some_of(numbers, _NUM_SAMPLED)])
    seen = [
        copies_of(network, training.pixels[part], num, show_progress_bar=show_progress_bar) if len(part) else None
        for part, num in ((labelled, num_copies), (unlabelled, num_of_unlabelled))
    ]
    network.cpu()
    targets_N = torch.from_numpy(training.targets[numbers])
    fit_axes(network.projection, *seen, targets_N[: len(labelled)])
    if has_plain:
        concentrate(
            network.projection, *seen, config.concentrate, seed=config.seed, show_progress_bar=show_progress_bar
        )
    ground = prepare_ground(
        network.projection,
        torch.cat([copies.pooled for copies in seen if copies is not None]),
        torch.cat([copies.distorted[0] for copies in seen if copies is not None]),
        targets_N,
        torch.cat([_log_bits_per_pixel(training.pixels[part]) for part in parts]),
        min_dim=network.config.min_dim,
        max_dim=network.config.max_dim,
        num_candidates=config.shorten.num_candidates,
    )
    shorten(network.dimension, ground, config.shorten, seed=config.seed, show_progress_bar=show_progress_bar)


def fit_tokens_and_statistics(network: EmbedderNetwork, pixels_NHW3: np.ndarray) -> None:
    """Fit the axes of a network's tokens, and its statistics, to these pictures, in place; whichever it has."""
    if network.tokens is not None:
        fit_tokens(network.tokens, local_features(network, pixels_NHW3))
    if network.statistics is not None:
        fit_statistics(network, pixels_NHW3)


def fit_statistics(network: EmbedderNetwork, pixels_NHW3: np.ndarray) -> None:
    """Centre and scale a network's statistics by what they are of these pictures, in place."""
    network.statistics.forget()
    attended_NC, statistics_NS = pooled_vectors(network, pixels_NHW3).tensor_split([network.backbone.num_channels], 1)
    network.statistics.fit(statistics_NS, attended_NC)


def _log_bits_per_pixel(pixels_NHW3: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(complexity(pixels_NHW3)["bits_per_pixel"]).float().log()


def copies_of(
    network: EmbedderNetwork, pixels_NHW3: np.ndarray, num_copies: int, *, show_progress_bar: bool = False
) -> Copies:
    """Pooled vectors of pictures and of `num_copies` distorted copies of each."""
    return Copies(
        pooled_vectors(network, pixels_NHW3, show_progress_bar=show_progress_bar),
        torch.stack(
            [
                pooled_vectors(network, distort(pixels_NHW3, seed=seed), show_progress_bar=show_progress_bar)
                for seed in range(num_copies)
            ]
        ),
    )


def fit_axes(
    projection: nn.Linear, labelled: Copies | None, unlabelled: Copies | None, targets_N: torch.Tensor
) -> None:
    """Set the projection to axes of what pictures differ by, less what distortion and class members differ by."""
    pooled = [None if copies is None else copies.pooled for copies in (labelled, unlabelled)]
    fit_projection_against(
        projection,
        pooled[1] if labelled is None else pooled[0],
        picture_covariance(*pooled),
        nuisance_covariance(labelled, targets_N, unlabelled),
    )


_NUM_SAMPLED = 8192
"""Pictures that say what the axes of tokens are, and how far the statistics of stages spread."""


def some_of(values_N: np.ndarray, most: int) -> np.ndarray:
    """Every so many-th, so that there are at most `most`."""
    return values_N[:: max(1, -(-len(values_N) // most))]
