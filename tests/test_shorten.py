"""The stage that teaches `d`, on vectors made so that it is known which of them need many numbers."""

import re
from dataclasses import replace
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from retrieval.dimension import DimensionPredictor
from retrieval.errors import TrainingError, UsageError
from retrieval.training.candidates import CandidateScores
from retrieval.training.recipes import RECIPES, RankingTerms, smallest_sufficient
from retrieval.training.shorten import ShortenConfig, calibrate, correlation, prepare_ground, shorten

NUM_DIMS, SHORT, LONG = 64, 8, 64
CONFIG = ShortenConfig(
    budget=24.0,
    steps=80,
    batch_size=200,
    num_candidates=16,
    complexity_weight=0.0,
    learning_rate=1e-2,
    budgets=(20.0, 29.0),
)


def plain_and_crowded(seed: int, noise: float):
    """(pooled, distorted, targets): 100 vectors told apart by their first 8 numbers, 100 only by what follows.

    The crowded ones come in families that share their first 8 numbers; the last number says which kind a vector is.
    """
    generator = torch.Generator().manual_seed(seed)
    plain = torch.zeros(100, NUM_DIMS)
    plain[:, :SHORT] = torch.randn(100, SHORT, generator=generator)
    crowded = torch.randn(100, NUM_DIMS, generator=generator)
    crowded[:, :SHORT] = torch.randn(5, SHORT, generator=generator).repeat_interleave(20, 0)
    pooled = torch.cat([plain, crowded])
    pooled[:100, -1] = -1.0
    pooled[100:, -1] = 1.0
    distorted = pooled + noise * torch.randn(pooled.shape, generator=generator)
    targets = torch.cat([torch.full((100,), -1), torch.arange(5).repeat_interleave(20)])
    return pooled, distorted, targets


@cache
def ground(seed: int = 0, noise: float = 0.6):
    pooled, distorted, targets = plain_and_crowded(seed, noise)
    projection = nn.Linear(NUM_DIMS, NUM_DIMS)
    nn.init.eye_(projection.weight)
    nn.init.zeros_(projection.bias)
    complexity = torch.cat([torch.linspace(0, 1, 100), torch.linspace(1, 2, 100)])
    return prepare_ground(
        projection, pooled, distorted, targets, complexity, min_dim=SHORT, max_dim=LONG, num_candidates=16
    )


@pytest.mark.parametrize(
    ("recipe", "noise"), [("interpolated", 0.6), ("expected", 0.6), ("gumbel", 0.6), ("ordinal", 0.3)]
)
def test_what_only_long_embeddings_tell_apart_gets_longer_ones(recipe, noise):
    torch.manual_seed(0)
    predictor = DimensionPredictor(NUM_DIMS, min_dim=SHORT, max_dim=LONG)
    here = ground(noise=noise)
    shorten(
        predictor, here, replace(CONFIG, recipe=recipe, terms=RankingTerms(class_weight=0.0, instance_temperature=0.05))
    )
    dims = predictor(ground(seed=1).pooled)
    assert dims[100:].mean() > 1.2 * dims[:100].mean()
    assert predictor(here.pooled).mean().item() == pytest.approx(CONFIG.budget, abs=0.1)


def test_lengths_start_from_the_energy_that_each_keeps():
    torch.manual_seed(0)
    predictor = DimensionPredictor(NUM_DIMS, min_dim=SHORT, max_dim=LONG)
    shorten(predictor, ground(), replace(CONFIG, steps=0, energy_steps=200, energy_floor=0.0))
    dims = predictor(ground(seed=1).pooled)  # plain vectors have all of it in their first numbers
    assert dims[:100].max() < SHORT + 4 < dims[100:].mean()
    assert predictor(ground().pooled).mean().item() == pytest.approx(CONFIG.budget, abs=0.1)


def test_no_length_starts_far_below_the_budget():
    dims = []
    for floor in (0.0, 0.5):
        torch.manual_seed(0)
        predictor = DimensionPredictor(NUM_DIMS, min_dim=SHORT, max_dim=LONG)
        start = replace(CONFIG, steps=0, energy_steps=200, energy_spread=1.0, energy_floor=floor)
        shorten(predictor, ground(), start)
        dims.append(predictor(ground(seed=1).pooled)[:100].mean().item())
    assert dims[1] == pytest.approx(0.5 * CONFIG.budget, rel=0.2) and dims[0] < 0.8 * dims[1]


def test_lengths_by_energy_are_drawn_apart_as_far_as_asked():
    spreads = []
    for energy_spread in (1.0, 2.0):
        torch.manual_seed(0)
        predictor = DimensionPredictor(NUM_DIMS, min_dim=SHORT, max_dim=LONG)
        start = replace(CONFIG, steps=0, energy_steps=400, energy_spread=energy_spread, energy_floor=0.0)
        shorten(predictor, ground(), start)
        # Of the crowded alone: plain ones are at the shortest length, which no spread makes shorter.
        spreads.append(predictor(ground().pooled)[100:].log().std().item())
    assert spreads[1] > 1.5 * spreads[0]


def test_lengths_stay_near_those_by_energy_as_far_as_asked():
    found = {}
    for name, settings in {
        "start": {"steps": 0},
        "free": {"energy_weight": 0.0},
        "held": {"energy_weight": 1000.0},
    }.items():
        torch.manual_seed(0)
        predictor = DimensionPredictor(NUM_DIMS, min_dim=SHORT, max_dim=LONG)
        shorten(predictor, ground(), replace(CONFIG, energy_steps=400, **settings))
        found[name] = predictor(ground().pooled).log()
    moved = {name: (found[name] - found["start"]).std().item() for name in ("free", "held")}
    assert moved["held"] < 0.5 * moved["free"]


def test_lengths_follow_complexity_where_that_is_asked_for():
    torch.manual_seed(0)
    predictor = DimensionPredictor(NUM_DIMS, min_dim=SHORT, max_dim=LONG)
    terms = RankingTerms(instance_weight=0.0, class_weight=0.0)
    shorten(predictor, ground(), replace(CONFIG, terms=terms, complexity_weight=10.0, complexity_correlation=0.7))
    assert correlation(predictor(ground().pooled).log(), ground().complexity) > 0.6


def test_a_bend_draws_the_middle_together_and_keeps_the_order():
    needs, dims = [], []
    for slopes in ((1.0, 1.0, 1.0), (1.0, 0.1, 1.0)):
        torch.manual_seed(0)
        predictor = DimensionPredictor(NUM_DIMS, min_dim=SHORT, max_dim=LONG, bent=True)
        shorten(predictor, ground(), replace(CONFIG, bend_at=(0.25, 0.75), bend=slopes))
        needs.append(predictor.need(ground().pooled))
        dims.append(predictor(ground().pooled))
        assert dims[-1].mean().item() == pytest.approx(CONFIG.budget, abs=0.1)
    assert torch.equal(*needs)
    order = needs[0].argsort()
    assert (dims[1][order].diff() >= -1e-3).all()
    middles = [lengths[order][60:140].log().std() for lengths in dims]
    assert middles[1] < 0.2 * middles[0]


def test_what_was_bent_before_is_taught_anew_from_a_straight_line():
    outcomes = []
    for slopes in ((1.0, 1.0, 1.0), (5.0, 0.1, 5.0)):
        torch.manual_seed(0)
        predictor = DimensionPredictor(NUM_DIMS, min_dim=SHORT, max_dim=LONG, bent=True)
        predictor.bend.slopes.copy_(torch.tensor(slopes))
        shorten(predictor, ground(), CONFIG)
        outcomes.append(predictor(ground().pooled))
    assert torch.equal(*outcomes)


def test_correlation_by_hand():
    a = torch.tensor([1.0, 2.0, 3.0])
    assert correlation(a, 5 - 2 * a).item() == pytest.approx(-1)
    assert correlation(a, torch.tensor([1.0, 0.0, 1.0])).item() == pytest.approx(0, abs=1e-6)


def test_the_same_seed_teaches_the_same():
    outcomes = []
    for _ in range(2):
        torch.manual_seed(3)
        predictor = DimensionPredictor(NUM_DIMS, min_dim=SHORT, max_dim=LONG)
        shorten(predictor, ground(), replace(CONFIG, steps=5, recipe="gumbel"), seed=7)
        outcomes.append(predictor(ground().pooled))
    assert torch.equal(*outcomes)


def test_calibration_meets_the_budget_and_keeps_the_order():
    torch.manual_seed(0)
    predictor = DimensionPredictor(16)
    nn.init.normal_(predictor.net[-1].weight)
    pooled = torch.randn(300, 16)
    before = predictor(pooled)
    for budget in (48.0, 96.0, 300.0):
        calibrate(predictor, pooled, budget)
        after = predictor(pooled)
        assert after.mean().item() == pytest.approx(budget, rel=1e-3)
        assert torch.equal(after.argsort(), before.argsort())


def test_the_smallest_sufficient_length_by_hand():
    lengths = torch.tensor([8, 16, 32])
    own = torch.tensor([[0.9, 0.9, 0.9], [0.1, 0.6, 0.9], [0.9, 0.1, 0.9], [0.1, 0.1, 0.1]])
    other = torch.full((4, 3), 0.5)
    table = CandidateScores(torch.zeros(4, 2, dtype=torch.long), torch.stack([own, other], 1), lengths)
    # The third wins at 8 but loses again at 16; the last never wins.
    assert smallest_sufficient(table).tolist() == [8, 16, 32, 32]


def test_unlabelled_pictures_ask_no_query_by_class():
    torch.manual_seed(0)
    here = ground()
    dims = torch.full((200,), 20.0, requires_grad=True)
    terms = RankingTerms(instance_weight=0.0, class_weight=1.0)
    for recipe in ("interpolated", "expected", "gumbel", "in_batch"):
        assert RECIPES[recipe](dims, torch.arange(100), here, terms).item() == 0
        assert RECIPES[recipe](dims, torch.arange(200), here, terms).item() > 0


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(UsageError, match="expected a recipe among interpolated, expected, gumbel, .*got 'guess'"):
        ShortenConfig(recipe="guess")
    with pytest.raises(UsageError, match="expected a positive budget"):
        ShortenConfig(budget=0)
    with pytest.raises(UsageError, match=r"expected an energy_floor of 0 or more and below 1, got 1\.0"):
        ShortenConfig(energy_floor=1.0)
    with pytest.raises(UsageError, match=r"expected an energy_spread and an energy_weight of at least 0, got -1, 1\.0"):
        ShortenConfig(energy_spread=-1)
    with pytest.raises(UsageError, match=r"an energy_spread and an energy_weight of at least 0, got 1\.2, nan"):
        ShortenConfig(energy_weight=float("nan"))
    with pytest.raises(UsageError, match=r"expected bend_at of two quantiles that rise within 0..1, got \(0.9, 0.1\)"):
        ShortenConfig(bend_at=(0.9, 0.1))
    for slopes in ((1.0, 0.0, 1.0), (1.0, float("nan"), 1.0), (1.0, 1.0)):
        message = "expected a bend of three slopes above 0, which keep lengths in order, got " + re.escape(str(slopes))
        with pytest.raises(UsageError, match=message):
            ShortenConfig(bend=slopes)
    with pytest.raises(UsageError, match=r"expected budgets that rise from above 0, got \(90.0, 30.0\)"):
        ShortenConfig(budgets=(90.0, 30.0))


def test_lengths_that_are_no_numbers_end_the_stage():
    with pytest.raises(TrainingError, match="^expected a finite .*lower the learning_rate of the stage `shorten`"):
        shorten(
            DimensionPredictor(NUM_DIMS, min_dim=SHORT, max_dim=LONG), ground(), replace(CONFIG, learning_rate=1e30)
        )
    with pytest.raises(UsageError, match="expected temperatures above 0, for instances and classes, got 0.0, 0.05"):
        RankingTerms(instance_temperature=0.0)
    with pytest.raises(
        UsageError, match="expected a batch_size of at least 1 and learning rates above 0, got 200, 0, 0.002"
    ):
        replace(CONFIG, learning_rate=0)


def test_full_vectors_of_the_ground_have_unit_length():
    here = ground()
    for vectors in (here.full, here.distorted):
        torch.testing.assert_close(vectors, F.normalize(vectors, dim=-1))
    assert here.originals.documents[:, 0].tolist() == list(range(200))
