import json

import numpy as np
import pytest
import torch

from retrieval import train_embedder
from retrieval.datasets import LabelledImages
from retrieval.errors import TrainingError, UsageError
from retrieval.shorten import ShortenConfig, shorten
from retrieval.train_embedder import Learner, TrainConfig, learning_rate_schedule, picture_numbers, train

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


def test_a_run_leaves_a_network_a_log_and_a_checkpoint(finished):
    network, out = finished
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert all(0 <= line["val_recall_at_1"] <= 100 for line in lines)
    assert (out / "checkpoint.pt").exists() and (out / "best.pt").exists()
    assert list(out.glob("events.out.tfevents.*"))
    # The projection is orthogonal up to the scale of each axis: the part-whitened principal axes.
    weight = network.projection.weight[:20].double()
    gram = weight @ weight.T
    assert torch.allclose(gram - torch.diag(gram.diag()), torch.zeros(20, 20).double(), atol=1e-3 * gram.max().item())


@pytest.mark.parametrize("stop_at", [3, 6])
def test_a_run_that_was_killed_and_resumed_ends_with_the_same_weights(sets, finished, tmp_path, monkeypatch, stop_at):
    unbroken, _ = finished
    calls = 0
    original = train_embedder.Augment.forward

    def dies(self, pictures):
        nonlocal calls
        calls += 1
        if calls == stop_at:
            raise KeyboardInterrupt
        return original(self, pictures)

    monkeypatch.setattr(train_embedder.Augment, "forward", dies)
    with pytest.raises(KeyboardInterrupt):
        train(TINY, *sets, tmp_path)
    monkeypatch.setattr(train_embedder.Augment, "forward", original)
    resumed = train(TINY, *sets, tmp_path)
    for (name, expected), got in zip(unbroken.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(expected, got), name


def test_a_checkpoint_of_other_settings_is_refused(sets, finished):
    _, out = finished
    other = TrainConfig(**{**vars(TINY), "learning_rate": 1e-4, "seed": 3})
    with pytest.raises(TrainingError, match="other learning_rate, seed"):
        train(other, *sets, out)


def test_a_loss_that_is_no_number_stops_the_run(sets, tmp_path, monkeypatch):
    monkeypatch.setattr(Learner, "forward", lambda self, *_: next(self.parameters()).sum() * float("nan"))
    with pytest.raises(TrainingError, match="expected a finite loss, got nan at step 0"):
        train(TINY, *sets, tmp_path)


def test_every_picture_comes_up_before_one_returns():
    config = TrainConfig(batch_size=8, views=2)
    seen = [picture_numbers(20, step, config) for step in range(5)]
    assert all(torch.equal(numbers[:4], numbers[4:]) for numbers in seen)
    assert sorted(torch.cat([numbers[:4] for numbers in seen]).tolist()) == list(range(20))


def test_the_learning_rate_warms_up_and_falls():
    rate = learning_rate_schedule(TrainConfig(learning_rate=1.0, warmup_epochs=1, epochs=10), steps_per_epoch=10)
    rates = [rate(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == pytest.approx(1.0)
    assert rates[9:] == sorted(rates[9:], reverse=True) and rates[-1] < 0.02


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backbone": "resnet"}, "expected a backbone among"),
        ({"epochs": 0}, "expected at least one epoch"),
        ({"batch_size": 3}, "batch_size of at least two pictures' 2 views, got 3"),
        ({"views": 1}, "expected two views or more to tell pictures apart by, got 1"),
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
    with pytest.raises(UsageError, match="at least one batch of 16 training pictures, got 4"):
        train(TINY, labelled(2, 2, seed=0), validation, tmp_path)


def test_shortening_keeps_the_budget_and_changes_nothing_else():
    torch.manual_seed(0)
    network = train_embedder.EmbedderNetwork(TINY.embedder)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    # Two kinds of pictures: plain ones with few numbers that matter, crowded ones with many.
    pooled = torch.randn(400, network.backbone.num_channels)
    pooled[:, :8] *= 6
    pooled[:200, 8:] *= 0.05
    train_embedder.fit_projection(network.projection, pooled)
    projected = network.projection.weight.clone()
    targets = torch.arange(400) % 20
    ordered = torch.stack([pooled[:200], pooled[100:300], pooled[200:]])
    shorten(network, pooled, targets, ordered, ShortenConfig(steps=400, batch_size=256, budget=100.0))
    with torch.no_grad():
        dims = network.dimension(pooled)
    assert dims.mean().item() == pytest.approx(100, abs=0.5)
    assert dims[:200].mean() < 0.75 * dims[200:].mean()
    assert torch.equal(network.projection.weight, projected)
    changed = [n for n, v in network.state_dict().items() if not torch.equal(v, before[n])]
    assert all(name.startswith(("dimension.", "projection.")) for name in changed)
