"""Embedder and ranker end to end: gradients that reach every pixel's weight, and joint training runs."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_train_embedder import labelled

from retrieval import Embedder, train_jointly
from retrieval.augment import AugmentConfig
from retrieval.coatnet import CONFIGS
from retrieval.datasets import LabelledImages
from retrieval.errors import TrainingError, UsageError
from retrieval.network import EmbedderConfig, EmbedderNetwork, scale_pixels
from retrieval.ranker import DifferentiableSearchEngine, RankerConfig, RelevanceAttention
from retrieval.reranking.described import describe
from retrieval.reranking.encoders import NetworkEncoder
from retrieval.train_jointly import JointConfig
from retrieval.train_jointly import train_jointly as train
from retrieval.training.joint_learner import JointLearner, shown_in, some_candidates, usable
from retrieval.training.learner import Learner
from retrieval.training.ranker_examples import RankingExamples, labelled_examples, without_self
from retrieval.training.ranking_losses import pairwise
from retrieval.training.rerank_metrics import validate_ranker
from retrieval.training.train_config import TrainConfig

BRIEF = JointConfig(
    steps=4,
    refresh_steps=2,
    num_queries=2,
    num_candidates=4,
    train_size=32,
    warmup_steps=1,
    token_bytes=16,
    augment=AugmentConfig(vary_complexity=0.0),
)


def tiny(seed: int = 0, **changes) -> EmbedderNetwork:
    torch.manual_seed(seed)
    backbone = replace(
        CONFIGS["coatnet_micro"], channels=(8, 8, 32, 32), depths=(1, 1, 1, 1), stem_channels=(4, 8), image_size=32
    )
    heads = {"widths": (8, 16), "min_dim": 4, "max_dim": 16, "token_dim": 8, "statistics_of": (2,)}
    return EmbedderNetwork(EmbedderConfig(backbone=backbone, image_size=32, **heads | changes)).eval()


def attention_for(network: EmbedderNetwork, seed: int = 0) -> RelevanceAttention:
    torch.manual_seed(seed)
    shape = RankerConfig(
        token_dim=network.config.token_dim,
        num_dims=network.config.num_dims,
        num_channels=8,
        depth=1,
        num_candidate_heads=2,
    )
    attention = RelevanceAttention(shape)
    with torch.no_grad():  # a fresh one does not look at tokens at all
        for parameter in attention.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return attention


def engine_of(documents: EmbedderNetwork, queries: EmbedderNetwork, attention: torch.nn.Module):
    encoders = (
        NetworkEncoder(network, role=role, token_bytes=16)
        for network, role in ((documents, "document"), (queries, "query"))
    )
    return DifferentiableSearchEngine(*encoders, attention)


def test_gradients_of_both_encoders_are_those_of_finite_differences():
    documents, queries = tiny(0).double(), tiny(1).double()
    attention = attention_for(documents).double()
    engine = engine_of(documents, queries, attention)
    generator = torch.Generator().manual_seed(0)
    query_pixels = torch.rand(2, 3, 32, 32, generator=generator, dtype=torch.float64) * 2 - 1
    document_pixels = torch.rand(2, 3, 3, 32, 32, generator=generator, dtype=torch.float64) * 2 - 1
    relevant = torch.tensor([[True, False, False], [False, True, False]])

    def loss() -> torch.Tensor:
        return pairwise(engine(query_pixels, document_pixels), relevant, torch.ones_like(relevant))

    loss().backward()
    for network in (documents, queries):
        for name in ("backbone.stem.conv1.weight", "projection.weight", "tokens.projection.weight"):
            weights = network.get_parameter(name)
            assert weights.grad.abs().max() > 0, name
            (place,) = torch.nonzero(weights.grad.abs().flatten() == weights.grad.abs().max())[0]
            differences = []
            for change in (1e-6, -2e-6, 1e-6):
                with torch.no_grad():
                    weights.view(-1)[place] += change
                    differences.append(loss().item())
            expected = (differences[0] - differences[1]) / 2e-6
            assert weights.grad.view(-1)[place].item() == pytest.approx(expected, rel=1e-4), name


def test_an_encoder_says_what_an_embedder_does():
    network = tiny()
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype(np.uint8)
    with torch.no_grad():
        encoded = NetworkEncoder(network, role="document", token_bytes=16)(
            scale_pixels(torch.from_numpy(pixels)).unflatten(0, (2, 2))
        )
    expected = describe(Embedder(network, device="cpu").encode_pixels(pixels, token_bytes=16), as_queries=False)
    flat = encoded.map(lambda field: field.flatten(0, 1))
    assert torch.equal(flat.dims, expected.dims) and torch.equal(flat.mask, expected.mask)
    assert torch.allclose(flat.vectors, expected.vectors, atol=0.02)  # bfloat16 there, perhaps
    assert torch.allclose(flat.tokens, expected.tokens, atol=0.03)
    assert encoded.tokens.shape[:2] == (2, 2)


def test_an_encoder_needs_a_role_and_tokens():
    with pytest.raises(UsageError, match="expected a role among query, document, got 'gallery'"):
        NetworkEncoder(tiny(), role="gallery")
    with pytest.raises(UsageError, match="expected a network with local tokens, got one without"):
        NetworkEncoder(tiny(token_dim=0), role="query")(torch.zeros(1, 3, 32, 32))


@pytest.fixture(scope="module")
def pictures() -> LabelledImages:
    return labelled(3, 4, seed=0)


def lists_of(network: EmbedderNetwork, images: LabelledImages) -> RankingExamples:
    embeddings = Embedder(network, device="cpu").encode_pixels(images.pixels, token_bytes=16)
    order = np.argsort(-(embeddings.full @ embeddings.vectors.T), axis=1, kind="stable")
    return labelled_examples(
        embeddings, images.labels, without_self(order, np.arange(len(images))), near_duplicate=None
    )


def test_one_pass_says_what_a_search_engine_says(pictures):
    network = tiny()
    attention = attention_for(network)
    lists = usable(lists_of(network, pictures), 4).take(torch.tensor([0, 5, 7]))
    lists = lists.of_candidates(some_candidates(lists, 4, torch.Generator().manual_seed(0)))
    pixels = scale_pixels(torch.from_numpy(pictures.pixels))
    learner = Learner(network, TrainConfig(image_size=32), 3)
    model = JointLearner(learner, attention, pairwise, ranking_weight=1.0, embedder_weight=0.0, token_bytes=16).eval()
    got = model.relevance(network(pixels[shown_in(lists)]), lists)
    expected = engine_of(network, network, attention)(pixels[lists.rows], pixels[lists.candidates])
    assert got.shape == (3, 4) and torch.allclose(got, expected, atol=1e-4)


def test_candidates_of_a_step_are_of_both_kinds_and_count():
    relevant = torch.tensor([[True] * 5 + [False] * 3, [True] + [False] * 7, [True] * 7 + [False], [True] * 8])
    counts = torch.ones_like(relevant)
    counts[0, 0] = False
    counts[3] = False
    lists = RankingExamples(
        queries=describe_nothing(4),
        documents=describe_nothing(8),
        candidates=torch.arange(8).expand(4, 8),
        relevant=relevant,
        counts=counts,
        num_relevant=relevant.sum(1),
        rows=torch.arange(4),
    )
    some = usable(lists, 4)
    assert some.rows.tolist() == [0, 1, 2]
    seen = set()
    for seed in range(20):
        places = some_candidates(some, 4, torch.Generator().manual_seed(seed))
        picked = some.of_candidates(places)
        assert picked.counts.all() and picked.relevant.sum(1).tolist() == [2, 1, 3]
        assert all(len(set(row.tolist())) == 4 for row in places)
        seen |= set(places[0].tolist())
    assert seen == set(range(1, 8))
    with pytest.raises(UsageError, match="expected queries with 9 candidates that count"):
        usable(lists, 9)


def describe_nothing(num: int):
    from retrieval.reranking.described import Described

    return Described(*(torch.zeros(num, 1) for _ in range(4)), torch.zeros(num, 0), torch.zeros(num, 0).long())


def logged(out):
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def run(pictures, out, config=BRIEF, **settings):
    network = tiny()
    attention = attention_for(network)

    def validate(network, attention):
        return validate_ranker(attention, lists_of(network, pictures))

    found = settings.pop("find", lambda network: lists_of(network, pictures))
    return train(network, attention, pictures, found, config, out, validate=validate, device="cpu", **settings)


@pytest.fixture(scope="module")
def finished(pictures, tmp_path_factory):
    out = tmp_path_factory.mktemp("joint")
    return run(pictures, out), out


def test_a_run_trains_both_and_keeps_the_best(finished, pictures):
    (network, attention), out = finished
    lines = logged(out)
    assert [(line["epoch"], line["step"]) for line in lines] == [(0, 0), (1, 2), (2, 4)]
    best = max(line["val_map_at_100"] for line in lines)
    kept = validate_ranker(attention, lists_of(network, pictures))["val_map_at_100"]
    assert kept == pytest.approx(best, abs=1e-3)
    last = torch.load(out / "checkpoint.pt", weights_only=True)["model"]
    start, ranker = tiny().state_dict(), attention_for(tiny()).state_dict()
    moved = {name for name, value in start.items() if not torch.equal(value, last[f"learner.network.{name}"])}
    assert {"backbone.stem.conv1.weight", "projection.weight", "tokens.projection.weight"} <= moved
    assert not any("running" in name or name.startswith("dimension") for name in moved)
    assert not torch.equal(ranker["weigh.weight"], last["attention.weigh.weight"])


def test_a_run_that_was_killed_and_resumed_ends_with_the_same_weights(finished, pictures, tmp_path, monkeypatch):
    calls, original = 0, train_jointly.Augment.forward

    def dies(self, pixels):
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return original(self, pixels)

    monkeypatch.setattr(train_jointly.Augment, "forward", dies)
    with pytest.raises(KeyboardInterrupt):
        run(pictures, tmp_path)
    run(pictures, tmp_path)
    expected, got = (torch.load(out / "checkpoint.pt", weights_only=True)["model"] for out in (finished[1], tmp_path))
    assert all(torch.equal(value, got[name]) for name, value in expected.items())
    assert logged(tmp_path) == logged(finished[1])
    with pytest.raises(TrainingError, match="got one with other num_candidates; give the same settings"):
        run(pictures, tmp_path, replace(BRIEF, num_candidates=3))


def test_the_control_leaves_the_ranker_alone(pictures, tmp_path):
    run(pictures, tmp_path, replace(BRIEF, ranking_weight=0.0, steps=2))
    last = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["model"]
    assert all(
        torch.equal(value, last[f"attention.{name}"]) for name, value in attention_for(tiny()).state_dict().items()
    )
    start = tiny().state_dict()
    assert not torch.equal(start["projection.weight"], last["learner.network.projection.weight"])
    assert torch.equal(start["tokens.projection.weight"], last["learner.network.tokens.projection.weight"])


def test_settings_that_make_no_run():
    with pytest.raises(UsageError, match="expected num_candidates of at least 2, got 1"):
        JointConfig(num_candidates=1)
    with pytest.raises(UsageError, match="expected weights of 0 or more, one of them above, got 0, 0"):
        JointConfig(ranking_weight=0, embedder_weight=0)
    with pytest.raises(UsageError, match="expected learning_rate above 0, got 0"):
        JointConfig(learning_rate=0)
    with pytest.raises(UsageError, match="expected warmup_steps of at least 0, got -1"):
        JointConfig(warmup_steps=-1)
