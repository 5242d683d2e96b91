"""The four poolings against naive means, heads and mean-field steps, one location at a time."""

import math

import pytest
import torch
from torch import nn

from retrieval import pooling
from retrieval.errors import UsageError
from retrieval.pooling import POOLINGS, MultiheadPooling, SigmoidPooling, SoftmaxPooling, StructuredPooling

KINDS = sorted(POOLINGS)
BATCH, CHANNELS, HEIGHT, WIDTH = 2, 8, 3, 4


def randomised(pooling: nn.Module, std: float = 0.7) -> nn.Module:
    torch.manual_seed(0)
    for parameter in pooling.parameters():
        nn.init.normal_(parameter, std=std)
    return pooling


def features(seed: int = 1) -> torch.Tensor:
    return torch.randn(BATCH, CHANNELS, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(seed))


def naive_mean(features_CHW: torch.Tensor, weights_HW: list[list[float]]) -> torch.Tensor:
    total = sum(map(sum, weights_HW))
    places = [(row, column) for row in range(HEIGHT) for column in range(WIDTH)]
    return sum(weights_HW[row][column] / total * features_CHW[:, row, column] for row, column in places)


def every_location(function) -> list[list[float]]:
    return [[function(row, column) for column in range(WIDTH)] for row in range(HEIGHT)]


def one_location(net: nn.Module, features_CHW: torch.Tensor) -> list[list[float]]:
    """What a net of 1×1 convolutions says of each location, shown to it alone."""
    return every_location(lambda row, column: float(net(features_CHW[None, :, row, column, None, None])))


def assert_pools(pooling: nn.Module, weights_of) -> None:
    features_BCHW = features()
    pooled_BC, attention_BHW = pooling(features_BCHW)
    assert pooled_BC.shape == (BATCH, CHANNELS) and attention_BHW.shape == (BATCH, HEIGHT, WIDTH)
    for one, pooled_C, attention_HW in zip(features_BCHW, pooled_BC, attention_BHW, strict=True):
        weights = weights_of(one)
        torch.testing.assert_close(pooled_C, naive_mean(one, weights), rtol=1e-4, atol=1e-5)
        expected = torch.tensor(weights) / torch.tensor(weights).sum()
        torch.testing.assert_close(attention_HW, expected, rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_sigmoid_is_the_weighted_mean():
    pooling = randomised(SigmoidPooling(CHANNELS, num_hidden=6))
    assert_pools(pooling, lambda one: one_location(pooling.weigh, one))


@torch.no_grad()
def test_softmax_is_the_weighted_mean():
    pooling = randomised(SoftmaxPooling(CHANNELS, num_hidden=6))
    weight_DC, bias_D = pooling.hidden.weight.flatten(1), pooling.hidden.bias

    def weights_of(one: torch.Tensor) -> list[list[float]]:
        def power(row: int, column: int) -> float:
            return math.exp(torch.tanh(weight_DC @ one[:, row, column] + bias_D) @ pooling.context)

        return every_location(power)

    assert_pools(pooling, weights_of)


@torch.no_grad()
@pytest.mark.parametrize("num_iterations", [0, 1, 5])
def test_structured_is_mean_field_on_the_grid(num_iterations):
    pooling = randomised(StructuredPooling(CHANNELS, num_hidden=6, num_iterations=num_iterations))
    across, down = pooling.coupling.copy_(torch.tensor([0.6, -0.35])).tolist()

    def weights_of(one: torch.Tensor) -> list[list[float]]:
        scores = one_location(pooling.unary, one)
        marginals = every_location(lambda row, column: 1 / (1 + math.exp(-scores[row][column])))
        for _ in range(num_iterations):

            def step(row: int, column: int, marginals=marginals) -> float:
                message = 0.0
                for other_row, other_column, beta in (
                    (row, column - 1, across),
                    (row, column + 1, across),
                    (row - 1, column, down),
                    (row + 1, column, down),
                ):
                    if 0 <= other_row < HEIGHT and 0 <= other_column < WIDTH:
                        message += beta * (2 * marginals[other_row][other_column] - 1)
                return 1 / (1 + math.exp(-(scores[row][column] + message)))

            marginals = every_location(step)
        return marginals

    assert_pools(pooling, weights_of)


@torch.no_grad()
def test_multihead_a_head_at_a_time():
    pooling = randomised(MultiheadPooling(CHANNELS, num_heads=2))
    features_BCHW = features()
    pooled_BC, attention_BHW = pooling(features_BCHW)
    for one, pooled_C, attention_HW in zip(features_BCHW, pooled_BC, attention_BHW, strict=True):
        keys_CN, values_CN = pooling.key(one[None])[0].flatten(1), pooling.value(one[None])[0].flatten(1)
        heads, weights = [], []
        for head in range(2):
            channels = slice(4 * head, 4 * head + 4)
            powers = [math.exp(pooling.query_hD[head] @ key_D / 2) for key_D in keys_CN[channels].T]
            weights.append(torch.tensor(powers) / sum(powers))
            heads.append(sum(weight * value for weight, value in zip(weights[-1], values_CN[channels].T, strict=True)))
        torch.testing.assert_close(pooled_C, pooling.project(torch.cat(heads)), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(attention_HW.flatten(), (weights[0] + weights[1]) / 2, rtol=1e-4, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_equal_weights_give_the_mean(kind):
    pooling = POOLINGS[kind](CHANNELS)
    for name, parameter in pooling.named_parameters():
        if not name.startswith(("value", "project")):
            parameter.zero_()
    pooled_BC, attention_BHW = pooling(features())
    torch.testing.assert_close(attention_BHW, torch.full((BATCH, HEIGHT, WIDTH), 1 / (HEIGHT * WIDTH)))
    mean_BC = features().mean((2, 3))
    if kind == "multihead":
        mean_BC = pooling.project(pooling.value(mean_BC[:, :, None, None]).flatten(1))
    torch.testing.assert_close(pooled_BC, mean_BC, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("scale", [1e-3, 1, 100])
@pytest.mark.parametrize("kind", KINDS)
def test_attention_is_a_share(kind, scale):
    pooled_BC, attention_BHW = randomised(POOLINGS[kind](CHANNELS), std=1.0)(scale * features())
    assert (attention_BHW >= 0).all() and pooled_BC.isfinite().all()
    torch.testing.assert_close(attention_BHW.sum((1, 2)), torch.ones(BATCH), rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["sigmoid", "structured"])
def test_attention_is_a_share_even_where_every_weight_is_tiny(kind):
    pooling = randomised(POOLINGS[kind](CHANNELS), std=0.01)
    last = (pooling.weigh if kind == "sigmoid" else pooling.unary)[2]
    last.bias.fill_(-30.0)
    pooled_BC, attention_BHW = pooling(features())
    torch.testing.assert_close(attention_BHW.sum((1, 2)), torch.ones(BATCH))
    torch.testing.assert_close(pooled_BC, features().mean((2, 3)), rtol=0, atol=0.1)


@pytest.mark.parametrize("bias", [-90.0, -100.0, -200.0])
@pytest.mark.parametrize("kind", ["sigmoid", "structured"])
def test_attention_is_even_where_every_weight_has_underflowed(kind, bias):
    pooling = randomised(POOLINGS[kind](CHANNELS), std=0.01)
    (pooling.weigh if kind == "sigmoid" else pooling.unary)[2].bias.data.fill_(bias)
    pooled_BC, attention_BHW = pooling(features())
    torch.testing.assert_close(attention_BHW, torch.full((BATCH, HEIGHT, WIDTH), 1 / (HEIGHT * WIDTH)))
    torch.testing.assert_close(pooled_BC, features().mean((2, 3)))
    pooled_BC.square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in pooling.parameters())


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_another_precision(kind, dtype):
    pooling = randomised(POOLINGS[kind](CHANNELS))
    expected = pooling(features())
    pooled_BC, attention_BHW = pooling.to(dtype)(features().to(dtype))
    assert attention_BHW.dtype == torch.promote_types(dtype, torch.float32)
    for values, wanted in zip((pooled_BC, attention_BHW), expected, strict=True):
        torch.testing.assert_close(values.float(), wanted, rtol=0.1, atol=0.1)


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_one_location_gets_all_of_it(kind):
    pooled_BC, attention_BHW = randomised(POOLINGS[kind](CHANNELS))(features()[:, :, :1, :1])
    torch.testing.assert_close(attention_BHW, torch.ones(BATCH, 1, 1))
    if kind != "multihead":
        torch.testing.assert_close(pooled_BC, features()[:, :, 0, 0])


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_reaches_every_weight_and_the_features(kind):
    pooling, features_BCHW = randomised(POOLINGS[kind](CHANNELS)), features().requires_grad_()
    pooling(features_BCHW)[0].square().sum().backward()
    assert features_BCHW.grad.abs().sum() > 0
    # A key's bias moves all locations alike, so softmax does not feel it.
    moved = {name for name, parameter in pooling.named_parameters() if parameter.grad.abs().max() > 1e-3}
    assert moved == {name for name, _ in pooling.named_parameters()} - {"key.bias"}


def test_create():
    for kind, pooling_class in POOLINGS.items():
        assert isinstance(pooling.create(kind, CHANNELS), pooling_class)
    expected = "^expected a pooling among sigmoid, softmax, multihead, structured, mean, got"
    with pytest.raises(UsageError, match=f"{expected} 'none'$"):
        pooling.create("none", CHANNELS)
    with pytest.raises(UsageError, match=f"{expected} 'multi-head'; did you mean 'multihead'.$"):
        pooling.create("multi-head", CHANNELS)
    with pytest.raises(UsageError, match="^expected channels that 4 heads divide, got 6$"):
        pooling.create("multihead", 6)
