"""The soft cut, the hard cut, and the predicted length between its ends."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.coatnet import CONFIGS
from retrieval.dimension import Bend, DimensionPredictor, hard_cut, soft_cut, soft_mask, whole_dims
from retrieval.errors import UsageError
from retrieval.network import EmbedderConfig, EmbedderNetwork


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_soft_mask_by_hand():
    mask = soft_mask(torch.tensor([2.0, 0.5]), 4, temperature=0.5)
    expected = [[sigmoid(3), sigmoid(1), sigmoid(-1), sigmoid(-3)], [0.5, sigmoid(-2), sigmoid(-4), sigmoid(-6)]]
    # d = 0.5 and k = 1: (0.5 − 1 + ½) / τ = 0.
    torch.testing.assert_close(mask, torch.tensor(expected))


def test_cuts_by_hand():
    full = torch.tensor([[3.0, 4.0, 12.0, 84.0]])
    torch.testing.assert_close(hard_cut(full, torch.tensor([2])), torch.tensor([[0.6, 0.8, 0, 0]]))
    torch.testing.assert_close(hard_cut(full, torch.tensor([3])), torch.tensor([[3, 4, 12, 0]]) / 13)
    torch.testing.assert_close(hard_cut(full, torch.tensor([4])), full / math.sqrt(169 + 84**2))
    faded = torch.tensor([3 * sigmoid(3), 4 * sigmoid(1), 12 * sigmoid(-1), 84 * sigmoid(-3)])
    torch.testing.assert_close(soft_cut(full, torch.tensor([2.0]), 0.5)[0], faded / faded.norm())


@settings(deadline=None, max_examples=50)
@given(num_dims=st.integers(2, 64), data=st.data(), temperature=st.floats(1e-3, 50))
def test_soft_mask_falls_and_grows_with_d(num_dims, data, temperature):
    dims = data.draw(st.lists(st.floats(1, num_dims), min_size=2, max_size=5))
    mask = soft_mask(torch.tensor(sorted(dims), dtype=torch.float64), num_dims, temperature)
    assert ((mask >= 0) & (mask <= 1)).all()
    assert (mask.diff(dim=1) <= 1e-12).all() and (mask.diff(dim=0) >= -1e-12).all()
    # Around d the mask is a half, wherever d lies.
    middle = soft_mask(torch.tensor([num_dims / 2], dtype=torch.float64), num_dims, temperature)
    below, above = middle[0, (num_dims - 1) // 2], middle[0, num_dims // 2]
    assert below >= 0.5 - 1e-9 and (num_dims % 2 or above <= 0.5 + 1e-9)


@settings(deadline=None, max_examples=50)
@given(num_dims=st.integers(1, 80), data=st.data(), seed=st.integers(0, 2**31))
def test_the_soft_cut_becomes_the_hard_cut(num_dims, data, seed):
    dims = torch.tensor(data.draw(st.lists(st.integers(1, num_dims), min_size=1, max_size=5)))
    full = torch.randn(len(dims), num_dims, generator=torch.Generator().manual_seed(seed)) + 0.01
    hard = hard_cut(full, dims)
    distances = [(soft_cut(full, dims.float(), tau) - hard).norm(dim=1).max() for tau in (1.0, 0.1, 0.01)]
    assert distances[2] < 1e-4 and distances[2] <= distances[1] + 1e-6 and distances[1] <= distances[0] + 1e-6


@settings(deadline=None, max_examples=50)
@given(num_dims=st.integers(1, 80), data=st.data(), seed=st.integers(0, 2**31))
def test_a_hard_cut_is_a_prefix_of_unit_length(num_dims, data, seed):
    dims = torch.tensor(data.draw(st.lists(st.integers(1, num_dims), min_size=1, max_size=5)))
    full = torch.randn(len(dims), num_dims, generator=torch.Generator().manual_seed(seed)) + 0.01
    for row, one, dim in zip(hard_cut(full, dims), full, dims.tolist(), strict=True):
        assert (row[dim:] == 0).all()
        torch.testing.assert_close(row.norm(), torch.tensor(1.0))
        torch.testing.assert_close(row[:dim], one[:dim] / one[:dim].norm())


def test_soft_cut_gives_d_a_gradient_towards_what_helps():
    full = torch.tensor([[1.0, 1.0, 1.0, 1.0]])
    for wanted, sign in (([1.0, 1, 1, 1], 1), ([1.0, 0, 0, 0], -1)):
        dims = torch.tensor([2.0], requires_grad=True)
        target = torch.tensor(wanted) / torch.tensor(wanted).norm()
        (soft_cut(full, dims, temperature=1.0) @ target).sum().backward()
        assert sign * dims.grad.item() > 1e-3


def test_whole_dims():
    dims = whole_dims(torch.tensor([-4.0, 31.9, 32.4, 32.6, 511.7, 900.0]), min_dim=32, max_dim=512)
    assert dims.tolist() == [32, 32, 32, 33, 512, 512] and dims.dtype == torch.int64


@pytest.mark.parametrize(
    ("min_dim", "max_dim", "initial_dim"), [(32, 512, 128.0), (32, 512, 400.0), (1, 2, 1.5), (8, 64, 16.0)]
)
def test_a_fresh_predictor_says_initial_dim(min_dim, max_dim, initial_dim):
    predictor = DimensionPredictor(16, min_dim=min_dim, max_dim=max_dim, initial_dim=initial_dim)
    dims = predictor(torch.randn(5, 16))
    torch.testing.assert_close(dims, torch.full((5,), initial_dim), rtol=1e-4, atol=0)


@settings(deadline=None, max_examples=30)
@given(scale=st.floats(1e-3, 1e4), seed=st.integers(0, 2**31))
def test_d_stays_between_its_ends(scale, seed):
    torch.manual_seed(seed)
    predictor = DimensionPredictor(16, min_dim=20, max_dim=50, initial_dim=30)
    for parameter in predictor.parameters():
        torch.nn.init.normal_(parameter, std=scale)
    with torch.no_grad():
        dims = predictor(scale * torch.randn(40, 16))
    assert dims.shape == (40,) and (dims >= 20 * (1 - 1e-6)).all() and (dims <= 50 * (1 + 1e-6)).all()


def test_d_reaches_both_ends_and_learns():
    predictor = DimensionPredictor(16)
    for bias, end in ((-40.0, 32), (40.0, 512)):
        torch.nn.init.constant_(predictor.net[-1].bias, bias)
        torch.testing.assert_close(predictor(torch.randn(2, 16)), torch.full((2,), float(end)))
    fresh = DimensionPredictor(16)
    fresh(torch.randn(4, 16)).sum().backward()
    assert fresh.net[-1].weight.grad.abs().sum() > 0 and fresh.net[-1].bias.grad.abs().sum() > 0


def bend(knots: tuple[float, float], slopes: tuple[float, float, float], level: float = 0.0) -> Bend:
    bent = Bend()
    bent.load_state_dict({"knots": torch.tensor(knots), "slopes": torch.tensor(slopes), "level": torch.tensor([level])})
    return bent


def test_a_bend_by_hand():
    need = torch.tensor([-3.0, -1.0, 0.0, 2.0, 3.0])
    # Between −1 and 2 half as steep; each outer piece goes on where that ends: at −½ and at 1.
    expected = torch.tensor([-0.5 - 2 * 2, -0.5, 0.0, 1.0, 1 + 1 * 3]) + 10
    torch.testing.assert_close(bend((-1.0, 2.0), (2.0, 0.5, 3.0), 10.0)(need), expected)
    assert torch.equal(Bend()(need), need)


@settings(deadline=None, max_examples=50)
@given(
    knots=st.tuples(st.floats(-3, 3), st.floats(-3, 3)),
    slopes=st.tuples(*[st.floats(0.1, 10)] * 3),
    need=st.lists(st.floats(-5, 5), min_size=2, max_size=8),
)
def test_a_bend_keeps_the_order(knots, slopes, need):
    bent = bend(tuple(sorted(knots)), slopes)(torch.tensor(sorted(need)))
    assert (bent.diff() >= -1e-4).all()


def test_a_bent_predictor_that_was_not_bent_yet_is_a_plain_one():
    predictors = []
    for bent in (False, True):
        torch.manual_seed(0)
        predictors.append(DimensionPredictor(16, bent=bent))
        torch.nn.init.normal_(predictors[-1].net[-1].weight)
    pooled = torch.randn(20, 16)
    torch.testing.assert_close(predictors[0](pooled), predictors[1](pooled))
    # One number moves all lengths, whichever way they are predicted.
    for predictor in predictors:
        with torch.no_grad():
            predictor.level.add_(0.5)
    torch.testing.assert_close(predictors[0](pooled), predictors[1](pooled))


@pytest.mark.parametrize(
    ("min_dim", "max_dim", "initial_dim"), [(0, 512, 128), (64, 32, 64), (32, 512, 16), (32, 512, 600), (32, 32, 32)]
)
def test_ends_that_make_no_sense(min_dim, max_dim, initial_dim):
    message = (
        f"^expected 1 ≤ min_dim ≤ initial_dim ≤ max_dim and min_dim < max_dim, got {min_dim}, {initial_dim}, {max_dim}$"
    )
    with pytest.raises(UsageError, match=message):
        DimensionPredictor(16, min_dim=min_dim, max_dim=max_dim, initial_dim=initial_dim)


@pytest.mark.parametrize(("min_dim", "max_dim", "widths"), [(16, 64, (16, 32, 64)), (200, 512, (256, 512))])
def test_both_ends_of_a_network_can_be_set(min_dim, max_dim, widths):
    config = EmbedderConfig(
        backbone=CONFIGS["coatnet_micro"], image_size=64, min_dim=min_dim, max_dim=max_dim, widths=widths
    )
    with torch.no_grad():
        output = EmbedderNetwork(config).eval()(torch.randn(2, 3, 64, 64))
    assert output.full.shape == (2, widths[-1])
    assert ((output.dims > min_dim) & (output.dims < max_dim)).all()
