"""Training the ranker: that it learns, what it leaves behind, and that it can be taken up."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from toy_lists import NUM_DIMS, TOKEN_DIM, embedded, found, toy_examples

from retrieval import train_ranker as module
from retrieval.errors import TrainingError, UsageError
from retrieval.ranker import RankerConfig, RelevanceAttention
from retrieval.train_ranker import RankerTrainConfig, train_ranker
from retrieval.training.ranker_examples import labelled_examples
from retrieval.training.ranking_losses import RANKING_LOSSES
from retrieval.training.rerank_metrics import measures, relevance_of, similarities, validate_ranker
from retrieval.training.schedule import drawn

SHORT = RankerTrainConfig(epochs=3, batch_size=8, learning_rate=1e-2, patience=3)


def fresh(seed: int = 0) -> RelevanceAttention:
    torch.manual_seed(seed)
    shape = RankerConfig(token_dim=TOKEN_DIM, num_dims=NUM_DIMS, num_channels=8, depth=1, num_candidate_heads=2)
    return RelevanceAttention(shape)


@pytest.fixture(scope="module")
def sets():
    return toy_examples(8, 10, seed=0), toy_examples(6, 8, seed=1, near_duplicate=None)


@pytest.fixture(scope="module")
def finished(sets, tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    rows = []
    return train_ranker(fresh(), *sets, SHORT, out, report=rows.append), out, rows


def logged(out):
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    return all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


def test_tokens_that_say_more_than_vectors_are_learned_from(finished, sets):
    attention, out, rows = finished
    lines = logged(out)
    assert [line["epoch"] for line in lines] == [row["epoch"] for row in rows] == [0, 1, 2, 3]
    by_similarity = measures(similarities(sets[1]), sets[1])
    assert lines[0]["val_map_at_100"] == pytest.approx(by_similarity["map_at_100"], abs=1e-3)
    assert lines[0]["val_recall_at_1"] == pytest.approx(by_similarity["recall_at_1"], abs=1e-3)
    assert all({"loss", "val_loss", "step"} <= line.keys() for line in lines[1:]) and "loss" not in lines[0]
    best = max(line["val_map_at_100"] for line in lines)
    assert best > lines[0]["val_map_at_100"] + 3
    assert validate_ranker(attention, sets[1])["val_map_at_100"] == pytest.approx(best, abs=1e-3)
    assert not attention.training
    events = EventAccumulator(str(out)).Reload()
    assert len(events.Scalars("ranker/val_map_at_100")) == 4


def dies_at(monkeypatch, call: int) -> None:
    """From now on training is killed where it scores its `call`-th batch."""
    original, calls = relevance_of, 0

    def dies(*arguments):
        nonlocal calls
        calls += 1
        if calls == call:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(module, "relevance_of", dies)


def test_parts_and_an_end_that_is_kept_survive_a_kill(sets, tmp_path, monkeypatch):
    config = replace(SHORT, learning_rate=0.1, parts=("weigh",), keep_end=True, patience=1)
    unbroken = train_ranker(fresh(), *sets, config, tmp_path / "unbroken")
    dies_at(monkeypatch, 25)
    with pytest.raises(KeyboardInterrupt):
        train_ranker(fresh(), *sets, config, tmp_path / "killed")
    monkeypatch.undo()
    assert same(train_ranker(fresh(), *sets, config, tmp_path / "killed"), unbroken)
    assert logged(tmp_path / "killed") == logged(tmp_path / "unbroken")


@pytest.mark.parametrize("stop_at", [1, 15, 25])
def test_a_run_that_was_killed_and_resumed_ends_with_the_same_weights(sets, finished, tmp_path, monkeypatch, stop_at):
    dies_at(monkeypatch, stop_at)
    with pytest.raises(KeyboardInterrupt):
        train_ranker(fresh(), *sets, SHORT, tmp_path)
    monkeypatch.undo()
    assert same(train_ranker(fresh(), *sets, SHORT, tmp_path), finished[0])
    assert logged(tmp_path) == logged(finished[1])
    # And a finished run, asked for again, finishes from its checkpoint.
    dies_at(monkeypatch, 1)
    assert same(train_ranker(fresh(), *sets, SHORT, tmp_path), finished[0])


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda sets: {"config": replace(SHORT, learning_rate=1e-3, seed=2)}, "learning_rate, seed"),
        (lambda sets: {"attention": fresh(1)}, "weights to start from"),
        (lambda sets: {"training": sets[0].take(torch.arange(30))}, "training lists"),
        (lambda sets: {"validation": sets[0]}, "validation lists"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(sets, finished, change, what):
    given = {"attention": fresh(), "training": sets[0], "validation": sets[1], "config": SHORT} | change(sets)
    with pytest.raises(TrainingError, match=f"got one with other {what}; give the same settings"):
        train_ranker(*given.values(), finished[1])


def test_what_it_came_with_is_kept_where_nothing_is_better(sets, tmp_path):
    start = fresh()
    config = replace(SHORT, learning_rate=3.0, clip_norm=100.0, epochs=9, patience=2)
    # Labels dealt out anew: whatever is learned from them is wrong.
    embeddings, labels = embedded(8, 10, seed=0)
    noise = list(np.random.default_rng(0).permutation(labels))
    trained = train_ranker(
        start, labelled_examples(embeddings, noise, found(embeddings, 12)), sets[1], config, tmp_path
    )
    lines = logged(tmp_path)
    best = max(range(len(lines)), key=lambda epoch: lines[epoch]["val_map_at_100"])
    assert len(lines) == best + 1 + 2 < 10  # two epochs without a better one
    kept = validate_ranker(trained, sets[1])["val_map_at_100"]
    assert kept == pytest.approx(lines[best]["val_map_at_100"], abs=1e-3) and kept >= lines[0]["val_map_at_100"] - 1e-3


@pytest.mark.parametrize("loss", RANKING_LOSSES)
def test_every_loss_teaches(sets, tmp_path, loss):
    config = replace(SHORT, loss=loss, epochs=2)
    train_ranker(fresh(), *sets, config, tmp_path)
    lines = logged(tmp_path)
    assert lines[-1]["val_map_at_100"] > lines[0]["val_map_at_100"]


def test_several_sets_share_each_step(sets, tmp_path):
    judged = sets[0].take(torch.arange(3))
    feedback = torch.rand(*judged.candidates.shape, 6, generator=torch.Generator().manual_seed(0))
    judged = replace(judged, feedback=feedback)
    config = replace(SHORT, epochs=1, num_candidates=6)
    attention, measured = fresh(), []

    def measure(row):
        of_each = [validate_ranker(attention, examples)["val_map_at_100"] for examples in (sets[1], judged)]
        measured.append((row["val_map_at_100"], np.mean(of_each)))

    train_ranker(attention, [sets[0], judged], [sets[1], judged], config, tmp_path, report=measure)
    assert len(measured) == 2 and all(got == pytest.approx(mean) for got, mean in measured)
    assert relevance_of(attention, judged).shape == (3, 12)


@pytest.mark.parametrize(
    ("maps", "kept"),
    [
        ([50.0], 0),
        ([50.0, 53.0, 51.0], 1),  # the run goes on
        ([50.0, 53.0, 51.0, 50.0], 3),
        ([50.0, 53.0, 51.0, 49.9], 1),
        ([50.0, 49.0, 50.0, 49.9], 0),
    ],
)
def test_the_end_of_a_run_is_kept_where_that_is_asked_for(maps, kept):
    assert replace(SHORT, keep_end=True).kept_epoch(maps) == kept


def test_the_first_of_the_best_epochs_is_kept_otherwise():
    assert SHORT.kept_epoch([50.0, 53.0, 51.0, 53.0]) == 1


def test_a_run_that_keeps_its_end(sets, tmp_path):
    # Too fast to end where it was best; with what is kept in view it would have stopped before.
    config = replace(SHORT, learning_rate=0.1, keep_end=True, patience=1)
    trained = train_ranker(fresh(), *sets, config, tmp_path / "end")
    lines = logged(tmp_path / "end")
    maps = [line["val_map_at_100"] for line in lines]
    assert maps[0] <= maps[3] < max(maps) and [line["kept_epoch"] for line in lines][-1] == 3
    assert validate_ranker(trained, sets[1])["val_map_at_100"] == pytest.approx(maps[3], abs=1e-3)
    # From its checkpoint it is the same.
    assert same(train_ranker(fresh(), *sets, config, tmp_path / "end"), trained)


def test_parts_learn_while_the_others_stay(sets, tmp_path):
    config = replace(SHORT, loss="smooth_ap", epochs=1, learning_rate=0.1, parts=("weigh",))
    trained, start = train_ranker(fresh(), *sets, config, tmp_path), fresh()
    moved = {name for name, value in trained.state_dict().items() if not torch.equal(value, start.state_dict()[name])}
    assert moved == {"weigh.weight"}
    lines = logged(tmp_path)
    assert lines[1]["val_map_at_100"] > lines[0]["val_map_at_100"]
    # As if all else were frozen, the clipping of the gradient among it.
    frozen = fresh()
    for name, parameter in frozen.named_parameters():
        parameter.requires_grad_(name == "weigh.weight")
    by_hand = train_ranker(frozen, *sets, replace(config, parts=()), tmp_path / "by-hand")
    assert same(trained, by_hand)
    names = "global_match, token_match, context, metadata_match, weigh, embed, layers, correct"
    with pytest.raises(UsageError, match=f"expected parts among {names}, got attention"):
        train_ranker(fresh(), *sets, replace(config, parts=("weigh", "attention")), tmp_path / "other")
    with pytest.raises(UsageError, match="expected weights to train, got none in metadata_match; name other parts"):
        train_ranker(fresh(), *sets, replace(config, parts=("metadata_match",)), tmp_path / "none")
    for parts in ("weigh", ("weigh", "weigh")):
        with pytest.raises(UsageError, match="expected parts as a tuple of names that differ, got "):
            replace(config, parts=parts)


def test_linear_settings():
    linear = RankerTrainConfig.linear()
    assert (linear.parts, linear.loss, linear.learning_rate, linear.keep_end) == (("weigh",), "smooth_ap", 0.3, True)
    assert linear.epochs * linear.queries_per_epoch // linear.batch_size == 120
    assert RankerTrainConfig.linear(loss="margin", epochs=2) == replace(linear, loss="margin", epochs=2)


def test_all_examples_come_up_before_one_returns():
    shown = torch.cat([drawn(7, 3, step, seed=5) for step in range(14)])
    assert all(sorted(shown[start : start + 7].tolist()) == list(range(7)) for start in range(0, 42, 7))
    assert shown[:7].tolist() != shown[7:14].tolist() and len(drawn(2, 5, 1, seed=0)) == 5
    assert torch.equal(drawn(7, 3, 4, seed=5), drawn(7, 3, 4, seed=5))


def test_a_loss_that_is_no_number_ends_it(sets, tmp_path):
    broken = fresh()
    with torch.no_grad():
        broken.weigh.weight.fill_(float("nan"))
    with pytest.raises(
        TrainingError, match="expected a finite validation loss, got nan at step 0; no weights were saved"
    ):
        train_ranker(broken, *sets, SHORT, tmp_path)


def test_what_teaches_nothing_is_refused(sets, tmp_path):
    training, validation = sets
    alike = replace(training, relevant=torch.ones_like(training.relevant))
    with pytest.raises(UsageError, match="expected training queries with a relevant and an irrelevant candidate"):
        train_ranker(fresh(), alike, validation, SHORT, tmp_path)
    lost = replace(validation, num_relevant=torch.zeros_like(validation.num_relevant))
    with pytest.raises(UsageError, match="expected validation queries to which something is relevant, got none"):
        train_ranker(fresh(), training, lost, SHORT, tmp_path)
    with pytest.raises(UsageError, match="expected validation queries to which something is relevant, got none"):
        train_ranker(fresh(), training, [], SHORT, tmp_path)
    for settings, message in (
        ({"loss": "pointwise"}, "a loss among"),
        ({"loss": "smooth-ap"}, r"a loss among .*, got 'smooth-ap'; did you mean 'smooth_ap'\?$"),
        ({"num_candidates": 1}, "of at least 2, a pair"),
    ):
        with pytest.raises(UsageError, match=message):
            RankerTrainConfig(**settings)


def test_shares_weigh_the_sets(sets, tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(
        module, "relevance_of", lambda attention, some: shown.append(len(some)) or relevance_of(attention, some)
    )
    config = RankerTrainConfig(epochs=1, batch_size=8, queries_per_epoch=8)
    train_ranker(fresh(), [sets[0], sets[0]], sets[1], config, tmp_path, shares=[0.75, 0.25])
    assert shown == [6, 2]
    for shares in ([1.0], [0.5, 0.6], [0.0, 1.0]):
        with pytest.raises(UsageError, match="^expected 2 shares above 0 that sum to 1, one for each set, got "):
            train_ranker(fresh(), [sets[0], sets[0]], sets[1], config, tmp_path / "x", shares=shares)
