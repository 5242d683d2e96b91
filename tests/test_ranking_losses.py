"""Ranking losses: worked by hand, against plain loops, and what must not change them."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from retrieval.training.ranking_losses import RANKING_LOSSES, has_pair, listwise, margin, pairwise, smooth_ap

SCORES = torch.tensor([[2.0, 0.5, 1.0], [0.0, 1.0, 9.0]])
RELEVANT = torch.tensor([[True, False, False], [True, False, True]])
COUNTS = torch.tensor([[True, True, True], [True, True, False]])
ALL = list(RANKING_LOSSES.values())


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_pairwise_by_hand():
    first = (softplus(-1.5) + softplus(-1.0)) / 2
    assert pairwise(SCORES, RELEVANT, COUNTS).item() == pytest.approx((first + softplus(1.0)) / 2)
    one_pair = F.binary_cross_entropy_with_logits(torch.tensor(-1.0), torch.tensor(1.0))
    assert pairwise(SCORES[1:], RELEVANT[1:], COUNTS[1:]).item() == pytest.approx(one_pair.item())


def test_margin_by_hand():
    # Apart by 1.5 and 1, which is enough; then by −1, which falls short by 2.
    assert margin(SCORES, RELEVANT, COUNTS).item() == pytest.approx((0 + 2) / 2)


def test_listwise_by_hand():
    first = -math.log(math.exp(2) / (math.exp(2) + math.exp(0.5) + math.exp(1)))
    second = -math.log(1 / (1 + math.e))
    assert listwise(SCORES, RELEVANT, COUNTS).item() == pytest.approx((first + second) / 2)
    # Two relevant: the mean of both.
    logits = [math.log(2), 0.0, math.log(5)]
    expected = -(math.log(2 / 8) + math.log(5 / 8)) / 2
    assert listwise(
        torch.tensor([logits]), torch.tensor([[True, False, True]]), torch.ones(1, 3).bool()
    ).item() == pytest.approx(expected)


def test_smooth_ap_by_hand():
    scores, relevant = torch.tensor([[1.0, 2.0, 0.0]]), torch.tensor([[True, False, True]])
    first = 1 + sigmoid(-1 / 0.5)
    second = 1 + sigmoid(1 / 0.5)
    precision = (first / (first + sigmoid(1 / 0.5)) + second / (second + sigmoid(2 / 0.5))) / 2
    got = smooth_ap(scores, relevant, torch.ones(1, 3).bool(), temperature=0.5)
    assert got.item() == pytest.approx(1 - precision)
    # With steep steps it is average precision itself: hits at ranks 2 and 3.
    sharp = smooth_ap(scores, relevant, torch.ones(1, 3).bool(), temperature=1e-3)
    assert sharp.item() == pytest.approx(1 - (1 / 2 + 2 / 3) / 2)


@given(st.integers(0, 10_000))
def test_pairwise_and_margin_as_plain_loops(seed):
    rng = np.random.default_rng(seed)
    scores, relevant, counts = rng.normal(size=(3, 5)), rng.random((3, 5)) < 0.5, rng.random((3, 5)) < 0.7
    for loss, of_pair in ((pairwise, lambda apart: softplus(-apart)), (margin, lambda apart: max(0.0, 1 - apart))):
        means = []
        for q in range(3):
            pairs = [
                of_pair(scores[q, i] - scores[q, j])
                for i in range(5)
                for j in range(5)
                if counts[q, i] and counts[q, j] and relevant[q, i] and not relevant[q, j]
            ]
            means += [np.mean(pairs)] if pairs else []
        got = loss(torch.tensor(scores), torch.tensor(relevant), torch.tensor(counts))
        assert got.item() == pytest.approx(np.mean(means) if means else 0)


@pytest.mark.parametrize("loss", ALL)
@given(seed=st.integers(0, 10_000))
def test_order_and_what_does_not_count_change_nothing(loss, seed):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(4, 6, generator=generator, dtype=torch.float64)
    relevant, counts = (torch.rand(4, 6, generator=generator) < share for share in (0.4, 0.7))
    expected = loss(scores, relevant, counts)
    order = torch.randperm(6, generator=generator)
    assert torch.allclose(loss(scores[:, order], relevant[:, order], counts[:, order]), expected)
    assert torch.allclose(loss(torch.where(counts, scores, scores * 7 - 3), relevant, counts), expected)
    assert torch.allclose(loss(scores, relevant ^ ~counts, counts), expected)
    assert torch.allclose(loss(scores + 5, relevant, counts), expected)  # only differences matter


@pytest.mark.parametrize("loss", ALL)
def test_a_step_down_the_gradient_brings_the_relevant_up(loss):
    scores = SCORES.clone().requires_grad_()
    loss(scores, RELEVANT, COUNTS).backward()
    assert scores.grad[1, 0] < 0 < scores.grad[1, 1] and scores.grad[1, 2] == 0


@pytest.mark.parametrize("loss", ALL)
def test_queries_without_a_pair_contribute_nothing(loss):
    relevant = torch.tensor([[True, False, False], [True, True, True], [False, False, False]])
    counts = torch.tensor([[True, True, False], [True, True, True], [True, True, True]])
    assert has_pair(relevant, counts).tolist() == [True, False, False]
    scores = torch.randn(3, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    together = loss(scores, relevant, counts)
    assert torch.allclose(together, loss(scores[:1], relevant[:1], counts[:1]))
    none = loss(scores[1:], relevant[1:], counts[1:])
    none.backward()
    assert none.item() == 0 and scores.grad.eq(0).all()
    nothing_counts = loss(scores, relevant, torch.zeros_like(counts))
    assert nothing_counts.item() == 0 and nothing_counts.requires_grad
