"""Training runs: what they leave behind, that they can be taken up, and what they start from and learn from."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from retrieval import train_embedder
from retrieval.coatnet import CoAtNet
from retrieval.datasets import LabelledImages
from retrieval.errors import TrainingError, UsageError
from retrieval.network import EmbedderNetwork
from retrieval.pooled_vectors import pooled_vectors
from retrieval.projection import fit_projection
from retrieval.train_embedder import network_with, train
from retrieval.training import represent
from retrieval.training.checkpoints import Log
from retrieval.training.concentrate import ConcentrateConfig
from retrieval.training.learner import Learner, parameter_groups
from retrieval.training.represent import learning_rate_schedule
from retrieval.training.shorten import ShortenConfig
from retrieval.training.train_config import TrainConfig

TINY = TrainConfig(
    backbone="coatnet_micro",
    train_size=32,
    image_size=32,
    epochs=3,
    batch_size=16,
    warmup_epochs=0.5,
    checkpoint_steps=2,
    validate_every=1,
    shorten=ShortenConfig(steps=5, batch_size=32),
)


def labelled(num_classes: int, per_class: int, *, seed: int) -> LabelledImages:
    """Noise over a colour of the class: easy to learn."""
    rng = np.random.default_rng(seed)
    colours = rng.integers(40, 215, (num_classes, 1, 1, 1, 3))
    noise = rng.integers(-40, 40, (num_classes, per_class, 32, 32, 3))
    pixels = (colours + noise).clip(0, 255).astype(np.uint8).reshape(-1, 32, 32, 3)
    return LabelledImages(pixels=pixels, labels=tuple(f"class {i // per_class}" for i in range(len(pixels))))


@pytest.fixture(scope="module")
def sets() -> tuple[LabelledImages, LabelledImages]:
    return labelled(4, 16, seed=0), labelled(3, 8, seed=1)


@pytest.fixture(scope="module")
def finished(sets, tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    return train(TINY, *sets, out), out


def test_a_run_leaves_a_network_a_log_and_a_checkpoint(sets, finished):
    network, out = finished
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert all(line["val_recall_at_1"] > 60 for line in lines)  # three colours: chance is 30
    assert (out / "checkpoint.pt").exists() and (out / "best.pt").exists()
    assert list(out.glob("events.out.tfevents.*"))
    # The numbers of the pictures are uncorrelated, the widest first: principal axes.
    with torch.no_grad():
        numbers = network.projection(pooled_vectors(network, sets[0].pixels))[:, :20].double()
    spread = np.cov(numbers.numpy(), rowvar=False)
    assert np.abs(spread - np.diag(spread.diagonal())).max() < 0.02 * spread.max()
    assert (np.diff(spread.diagonal()) < 1e-6).all()


@pytest.mark.parametrize("stop_at", [3, 6])
def test_a_run_that_was_killed_and_resumed_ends_with_the_same_weights(sets, finished, tmp_path, monkeypatch, stop_at):
    unbroken, _ = finished
    calls = 0
    original = represent.Augment.forward

    def dies(self, pictures):
        nonlocal calls
        calls += 1
        if calls == stop_at:
            raise KeyboardInterrupt
        return original(self, pictures)

    monkeypatch.setattr(represent.Augment, "forward", dies)
    with pytest.raises(KeyboardInterrupt):
        train(TINY, *sets, tmp_path)
    monkeypatch.setattr(represent.Augment, "forward", original)
    resumed = train(TINY, *sets, tmp_path)
    for (name, expected), got in zip(unbroken.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(expected, got), name


def test_a_checkpoint_of_other_settings_is_refused(sets, finished):
    _, out = finished
    other = TrainConfig(**{**vars(TINY), "learning_rate": 1e-4, "seed": 3})
    with pytest.raises(TrainingError, match="other learning_rate, seed"):
        train(other, *sets, out)


def test_settings_of_the_heads_may_change_before_a_run_goes_on(sets, finished, tmp_path):
    network, out = finished
    shutil.copytree(out, tmp_path / "run")
    later = replace(TINY, statistics_of=(), shorten=ShortenConfig(steps=2), concentrate=ConcentrateConfig(steps=2))
    other = train(later, *sets, tmp_path / "run")
    assert network.statistics is not None and other.statistics is None
    for name, value in network.backbone.state_dict().items():
        assert torch.equal(value, other.backbone.state_dict()[name]), name


def test_a_checkpoint_of_other_classes_is_refused(sets, finished):
    _, out = finished
    with pytest.raises(TrainingError, match="got one with other classes to learn; give the same settings"):
        train(TINY, labelled(5, 16, seed=0), sets[1], out)


def test_a_checkpoint_of_other_pictures_is_refused(sets, finished):
    training, validation = sets
    shifted = replace(training, labels=training.labels[1:] + training.labels[:1])
    paired = replace(training, groups=tuple(f"pair {i // 2}" for i in range(len(training))))
    for other in (training.with_unlabelled(training), shifted, paired):
        with pytest.raises(TrainingError, match="got one with other training pictures; give the same settings and pic"):
            train(TINY, other, validation, finished[1])


def test_a_loss_that_is_no_number_stops_the_run(sets, tmp_path, monkeypatch):
    monkeypatch.setattr(Learner, "forward", lambda self, *_: next(self.parameters()).sum() * float("nan"))
    with pytest.raises(TrainingError, match="expected a finite loss, got nan at step 0; no weights were saved yet"):
        train(TINY, *sets, tmp_path)


def test_a_gradient_that_is_no_number_stops_the_run_before_the_weights_change(sets, tmp_path, monkeypatch):
    original, calls = Learner.forward, 0

    def breaks(self, *arguments):
        nonlocal calls
        calls += 1
        loss = original(self, *arguments)
        # The square root is 0, its slope is infinite.
        return loss if calls < 4 else loss + (0 * self.view.weight).sum().sqrt()

    monkeypatch.setattr(Learner, "forward", breaks)
    with pytest.raises(TrainingError, match="expected a finite gradient, got nan at step 3.*weights are in .*/check"):
        train(replace(TINY, checkpoint_steps=3), *sets, tmp_path)
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert saved["step"] == 3 and all(value.isfinite().all() for value in saved["learner"].values())


def test_a_log_that_goes_on_drops_what_came_later(tmp_path):
    for start, end in ((0, 5), (3, 4)):
        with Log(tmp_path, step=start, is_silent=False) as log:
            for step in range(start, end):
                log.number("value", 10 * start + step, step)
                log.line(step=step + 1, start=start)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(line["step"], line["start"]) for line in lines] == [(1, 0), (2, 0), (3, 0), (4, 3)]
    events = EventAccumulator(str(tmp_path)).Reload().Scalars("value")
    assert [(event.step, event.value) for event in events] == [(0, 0), (1, 1), (2, 2), (3, 33)]


@pytest.mark.slow
def test_a_run_killed_at_a_random_step_and_resumed_ends_with_the_same_weights(finished, tmp_path):
    script = f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from test_train_embedder import TINY, labelled
from retrieval.training import represent
from retrieval.train_embedder import train

original = represent.Augment.forward

def slowly(self, pictures):
    Path({str(tmp_path / "started")!r}).touch()
    time.sleep(0.2)
    return original(self, pictures)

represent.Augment.forward = slowly
train(TINY, labelled(4, 16, seed=0), labelled(3, 8, seed=1), Path({str(tmp_path)!r}))
"""
    child = subprocess.Popen([sys.executable, "-c", script], cwd=Path(__file__).parents[1])
    while not (tmp_path / "started").exists() and child.poll() is None:
        time.sleep(0.02)
    after = random.SystemRandom().uniform(0, 3)
    time.sleep(after)
    child.send_signal(signal.SIGKILL)
    child.wait()
    resumed = train(TINY, labelled(4, 16, seed=0), labelled(3, 8, seed=1), tmp_path)
    for (name, expected), got in zip(finished[0].state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(expected, got), f"{name} differs when killed after {after:.3f} s"
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3]


def test_what_is_validated_and_kept_is_the_moving_average(sets, tmp_path, monkeypatch):
    seen = []
    original = represent.save_checkpoint

    def records(path, progress, *settings):
        seen.append(progress.learner.network.projection.weight.detach().clone())
        original(path, progress, *settings)

    monkeypatch.setattr(represent, "save_checkpoint", records)
    config = replace(TINY, epochs=1, checkpoint_steps=1, ema_decay=0.25)
    train(config, *sets, tmp_path)
    expected = seen[0]
    # It starts with the first step's weights and forgets them fast: k weights in, it keeps (1 + k) / (10 + k) of them.
    for decay, weight in zip([2 / 11, 3 / 12, 0.25], seen[1:], strict=True):
        expected = decay * expected + (1 - decay) * weight
    kept = torch.load(tmp_path / "best.pt", weights_only=True)["network"]["projection.weight"]
    torch.testing.assert_close(kept, expected)
    assert not torch.equal(seen[0], seen[-1])


def without_labels(images: LabelledImages, *, per_group: int | None = None) -> LabelledImages:
    groups = None if per_group is None else tuple(f"group {i // per_group}" for i in range(len(images)))
    return LabelledImages(pixels=images.pixels, labels=(None,) * len(images), groups=groups)


@pytest.mark.parametrize("kind", ["groups", "nothing", "mixed"])
def test_training_on_pictures_without_labels(sets, tmp_path, kind):
    training, validation = {
        "groups": (without_labels(sets[0], per_group=2), without_labels(sets[1], per_group=8)),  # chance is 30
        "nothing": (without_labels(sets[0]), without_labels(labelled(24, 1, seed=1))),  # chance is 4
        "mixed": (sets[0].with_unlabelled(labelled(2, 8, seed=2)), sets[1]),  # chance is 30
    }[kind]
    network = train(replace(TINY, epochs=1), training, validation, tmp_path)
    (line,) = map(json.loads, (tmp_path / "log.jsonl").read_text().splitlines())
    assert line["step"] == len(training) // 16 and line["val_recall_at_1"] > (25 if kind == "nothing" else 60)
    assert all(value.isfinite().all() for value in network.state_dict().values())


@pytest.mark.parametrize(
    "settings",
    [
        {"loss": "proxy_anchor", "loss_learning_rate": 0.1, "nested": False, "ema_decay": 0.0},
        {"loss": "multi_similarity", "samples_per_class": 4, "views": 1, "instance_weight": 0.0},
    ],
    ids=lambda settings: settings["loss"],
)
def test_training_with_a_standard_loss(sets, tmp_path, settings):
    network = train(replace(TINY, epochs=1, pooling="mean", **settings), *sets, tmp_path)
    assert all(value.isfinite().all() for value in network.state_dict().values())


def test_a_trained_backbone_gets_heads_that_fit_it(sets):
    training, _ = sets
    torch.manual_seed(3)
    start = EmbedderNetwork(replace(TINY, train_size=64).embedder)
    learner = train_embedder.new_learner(replace(TINY, pooling="softmax"), training, start)
    assert learner.network.config == start.config, "the shape comes with the weights"
    train_embedder.fit_heads(learner, training)

    pooled = pooled_vectors(start, training.pixels)
    fit_projection(start.projection, pooled)
    unit = F.normalize(start.projection(pooled), dim=-1)
    for number in range(4):
        mean = F.normalize(unit[training.targets == number].mean(0), dim=-1)
        torch.testing.assert_close(learner.classify.class_vectors[number], mean * 512**0.5, atol=1e-3, rtol=1e-3)


def test_a_run_starts_from_weights_and_leaves_them(sets, tmp_path):
    torch.manual_seed(3)
    start = EmbedderNetwork(replace(TINY, train_size=64).embedder)
    before = {name: value.clone() for name, value in start.state_dict().items()}
    config = replace(TINY, epochs=1, learning_rate=1e-9, ema_decay=0.0)
    network = train(config, *sets, tmp_path, start_from=start)
    for name, value in start.state_dict().items():
        assert torch.equal(value, before[name]), name
    for name, value in start.named_parameters():
        if name.startswith(("backbone", "pooling")):
            torch.testing.assert_close(network.get_parameter(name), value, atol=1e-6, rtol=0, msg=name)
    with pytest.raises(TrainingError, match="got one with other weights to start from"):
        train(config, *sets, tmp_path)


def test_no_epochs_teach_the_heads_alone(sets, tmp_path):
    torch.manual_seed(3)
    start = EmbedderNetwork(TINY.embedder).eval()
    config = replace(TINY, epochs=0, plain_unlabelled=True, concentrate=ConcentrateConfig(steps=3))
    network = train(config, sets[0].with_unlabelled(labelled(2, 8, seed=2)), sets[1], tmp_path, start_from=start)
    for name, value in start.state_dict().items():
        if name.startswith(("backbone", "pooling")):
            assert torch.equal(network.state_dict()[name], value), name
    assert network.projection.correction[-1].weight.any(), "the correction was learned"
    assert not (tmp_path / "checkpoint.pt").exists()
    with pytest.raises(UsageError, match="expected a network to start from with 0 epochs, got none; give start_from"):
        train(replace(TINY, epochs=0), *sets, tmp_path)


def test_without_plain_pictures_nothing_corrects_the_projection(sets, tmp_path):
    start, few = EmbedderNetwork(TINY.embedder), replace(TINY, epochs=0, batch_size=1024)
    network = train(few, *sets, tmp_path, start_from=start)  # no batch is drawn, so it may be larger than the set
    assert not hasattr(network.projection, "correction") and network.config.projection_hidden == 0
    with pytest.raises(UsageError, match="expected pictures with labels and plain ones without for plain_unlabelled"):
        train(replace(few, plain_unlabelled=True), *sets, tmp_path, start_from=start)


def test_heads_alone_do_not_replace_another_run(sets, finished):
    network, out = finished
    with pytest.raises(TrainingError, match="expected a folder without a checkpoint for 0 epochs, got that of a train"):
        train(replace(TINY, epochs=0), *sets, out, start_from=network)


def test_a_pretrained_backbone_is_taken_over_without_its_classifier():
    config = replace(TINY, backbone="timm:coatnet_nano_rw_224", attention="post")
    backbone = CoAtNet(replace(TINY.embedder.backbone, num_classes=5, image_size=64))
    network = network_with(backbone, config)
    assert network.config.backbone.transformer.attention == "post"
    assert network.config.backbone.image_size == 64 and network.config.backbone.drop_path == 0.05
    assert network.config.backbone.num_classes == 0 and network.backbone.head.fc is None
    kept = network.backbone.state_dict()
    assert backbone.state_dict().keys() - kept.keys() == {"head.fc.weight", "head.fc.bias"}
    for name, value in kept.items():
        assert torch.equal(backbone.state_dict()[name], value), name


def test_each_parameter_is_in_one_group_at_its_own_rate():
    config = replace(TINY, loss="proxy_anchor", loss_learning_rate=0.15)
    learner = Learner(EmbedderNetwork(config.embedder), config, 3)
    groups = parameter_groups(learner, config)
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(grouped) == sorted(map(id, learner.parameters()))
    (of_loss,) = [group for group in groups if group["lr_factor"] != 1]
    assert of_loss["lr_factor"] == pytest.approx(100) and of_loss["params"] == [learner.classify.class_vectors]
    assert {group["weight_decay"] for group in groups} == {0.05, 0.0}
    tables = [p for name, p in learner.named_parameters() if "relative_position" in name or p.ndim == 1]
    assert tables and all(id(p) in {id(q) for q in groups[1]["params"]} for p in tables)


def test_the_learning_rate_warms_up_and_falls():
    rate = learning_rate_schedule(TrainConfig(learning_rate=1.0, warmup_epochs=1, epochs=10), steps_per_epoch=10)
    rates = [rate(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == pytest.approx(1.0)
    assert rates[9:] == sorted(rates[9:], reverse=True) and rates[-1] < 0.02


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backbone": "resnet"}, "expected a backbone among .*, got 'resnet'"),
        ({"backbone": "coatnet_mni"}, r"expected a backbone among .*; did you mean 'coatnet_mini'\?$"),
        ({"loss": "triplets"}, r"expected a loss among .*, got 'triplets'; did you mean 'triplet'\?$"),
        ({"epochs": -1}, r"expected epochs of 0 \(the heads alone\) or more, got -1"),
        ({"checkpoint_steps": 0}, "expected checkpoint_steps of at least 1, got 0"),
        ({"validate_every": 0}, "expected validate_every of at least 1, got 0"),
        ({"batch_size": 7}, "expected a batch_size that is a multiple of 2 views, got 7"),
        ({"batch_size": 3}, "batch_size of at least two pictures' 2 views, got 3"),
        ({"views": 1}, "expected two views or more to tell pictures apart by, got 1"),
        ({"loss": "magnet"}, "expected a loss among softmax, proxy_anchor, multi_similarity, supcon, triplet, got"),
        ({"samples_per_class": 3}, "expected samples_per_class that divides the 64 pictures of a batch, got 3"),
        ({"ema_decay": 1.0}, r"expected ema_decay in \[0, 1\), got 1.0"),
        ({"drop_path": -0.1}, r"expected drop_path in \[0, 1\), got -0.1"),
        ({"learning_rate": 0}, "expected learning_rate above 0, got 0"),
        ({"loss_learning_rate": float("nan")}, "expected loss_learning_rate above 0, got nan"),
        ({"image_size": 0}, "expected image_size above 0, got 0"),
        ({"weight_decay": -1}, "expected weight_decay of at least 0, got -1"),
    ],
)
def test_settings_are_checked(change, message):
    with pytest.raises(UsageError, match=message):
        TrainConfig(**change)


def test_sets_are_checked(sets, tmp_path):
    training, validation = sets
    with pytest.raises(UsageError, match="expected training pictures of 96 px, got 32"):
        train(TrainConfig(), training, validation, tmp_path)
    with pytest.raises(UsageError, match="at least two classes, got 1"):
        train(TINY, labelled(1, 32, seed=0), validation, tmp_path)
    with pytest.raises(UsageError, match="two validation pictures of one class or more, got one of each"):
        train(TINY, training, labelled(3, 1, seed=0), tmp_path)
    with pytest.raises(UsageError, match=r"expected a budget within 32\.\.512, got 600"):
        train(replace(TINY, shorten=ShortenConfig(budget=600)), training, validation, tmp_path)
    with pytest.raises(UsageError, match="at least one batch of 16 training pictures, got 4"):
        train(TINY, labelled(2, 2, seed=0), validation, tmp_path)
    with pytest.raises(UsageError, match="expected labels, or an instance_weight to learn without them by"):
        train(replace(TINY, instance_weight=0.0), without_labels(training), validation, tmp_path)


def test_shaping_keeps_the_budget_and_the_backbone(sets):
    torch.manual_seed(0)
    network = train_embedder.with_new_heads(EmbedderNetwork(TINY.embedder), TINY)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    training, _ = sets
    config = replace(TINY, shorten=ShortenConfig(steps=5, batch_size=32, budget=100.0))
    train_embedder.shape_embedding(network, config, training.with_unlabelled(labelled(2, 8, seed=2)))
    with torch.no_grad():
        pooled = pooled_vectors(network, training.pixels)
        dims = network.dimension(pooled)
    assert 32 <= dims.min() and dims.mean().item() == pytest.approx(100, abs=20)
    changed = [name for name, value in network.state_dict().items() if not torch.equal(value, before[name])]
    heads = ("dimension.", "projection.", "tokens.", "statistics.")
    assert changed and all(name.startswith(heads) for name in changed)
    # Each has about seven tenths of the spread of an attended channel; without the unlabelled, some less.
    attended, statistics = pooled.tensor_split([network.backbone.num_channels], 1)
    spread = statistics.std(0, correction=0)[network.statistics.scale_S > 0]
    shares = spread / attended.var(0, correction=0).mean().sqrt()
    assert len(shares) and 0.2 < shares.min() and shares.max() < 1


def test_statistics_are_fitted_alike_the_second_time(sets):
    torch.manual_seed(0)
    network = train_embedder.with_new_heads(EmbedderNetwork(TINY.embedder), TINY)
    scales = []
    for _ in range(2):
        train_embedder.fit_statistics(network, sets[0].pixels)
        scales.append(network.statistics.scale_S.clone())
    assert torch.equal(*scales)
