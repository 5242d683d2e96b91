"""Relative attention against a double loop written from its equations, its bias against a naive gather."""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.errors import UsageError
from retrieval.layers.attention import RelativeAttention, TransformerBlock, TransformerConfig
from retrieval.layers.relative_bias import BiasMLP, BiasTable, RelativeBias, offset_index, resize_table

SIZES = [(1, 1), (2, 3), (4, 2), (3, 3), (1, 5)]


def naive_bias(bias: RelativeBias, height: int, width: int) -> torch.Tensor:
    """w[head][i][j] by the offset i − j, one number at a time, for a table of the map's own size or an MLP."""
    places = [(row, column) for row in range(height) for column in range(width)]
    result = []
    for row_i, column_i in places:
        line = []
        for row_j, column_j in places:
            down, right = row_i - row_j, column_i - column_j
            if isinstance(bias, BiasTable):
                table = bias.relative_position_bias_table.unflatten(0, (2 * height - 1, 2 * width - 1))
                line.append(table[down + height - 1, right + width - 1])
            else:
                logs = [math.copysign(math.log(1 + abs(step)), step) for step in (down, right)]
                line.append(bias.mlp(torch.tensor(logs)))
        result.append(torch.stack(line))
    return torch.stack(result).permute(2, 0, 1).detach()


def naive_attention(attention: RelativeAttention, features_CHW: torch.Tensor, *, post: bool) -> torch.Tensor:
    """Equation 3 of arXiv 2106.04803 with queries, keys and values, a head and a pair of locations at a time."""
    _, height, width = features_CHW.shape
    D = attention.head_dim
    x_NC = features_CHW.flatten(1).T
    qkv_NV = x_NC @ attention.qkv.weight.flatten(1).T + attention.qkv.bias
    w_hNN = naive_bias(attention.rel_pos, height, width)
    heads = []
    for h in range(qkv_NV.shape[1] // (3 * D)):
        query, key, value = qkv_NV[:, 3 * D * h : 3 * D * (h + 1)].split(D, dim=1)
        lines = []
        for i in range(height * width):
            products = [float(query[i] @ key[j]) / math.sqrt(D) for j in range(height * width)]
            if post:
                total = sum(math.exp(product) for product in products)
                weights = [math.exp(product) / total + float(w_hNN[h, i, j]) for j, product in enumerate(products)]
            else:
                powers = [math.exp(product + float(w_hNN[h, i, j])) for j, product in enumerate(products)]
                weights = [power / sum(powers) for power in powers]
            lines.append(sum(weight * value[j] for j, weight in enumerate(weights)))
        heads.append(torch.stack(lines))
    y_NC = torch.cat(heads, dim=1) @ attention.proj.weight.flatten(1).T + attention.proj.bias
    return y_NC.T.unflatten(1, (height, width))


def random_attention(size: tuple[int, int], config: TransformerConfig) -> RelativeAttention:
    torch.manual_seed(0)
    in_channels, out_channels = 8, 12
    num_heads = (out_channels if config.widen_in == "qkv" else in_channels) // config.head_dim
    bias = BiasMLP(num_heads, 16) if config.bias == "mlp" else BiasTable(*size, num_heads)
    attention = RelativeAttention(in_channels, out_channels, config=config, bias=bias)
    for parameter in attention.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return attention


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("widen_in", ["qkv", "proj"])
@pytest.mark.parametrize("kind", ["pre", "post"])
@torch.no_grad()
def test_equals_the_double_loop(kind, widen_in, size):
    attention = random_attention(size, TransformerConfig(attention=kind, head_dim=4, widen_in=widen_in)).double()
    features_BCHW = torch.randn(2, 8, *size, dtype=torch.float64)
    expected = torch.stack([naive_attention(attention, one, post=kind == "post") for one in features_BCHW])
    torch.testing.assert_close(attention(features_BCHW), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", ["pre", "post"])
@torch.no_grad()
def test_equals_the_double_loop_with_an_mlp_for_the_bias(kind):
    attention = random_attention((3, 2), TransformerConfig(attention=kind, head_dim=4, bias="mlp"))
    features_BCHW = torch.randn(1, 8, 3, 2)
    expected = naive_attention(attention, features_BCHW[0], post=kind == "post")
    torch.testing.assert_close(attention(features_BCHW)[0], expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_pre_and_post_differ_by_the_kernel_alone():
    pre = random_attention((3, 3), TransformerConfig(attention="pre", head_dim=4))
    post = random_attention((3, 3), TransformerConfig(attention="post", head_dim=4))
    features_BCHW = torch.randn(1, 8, 3, 3)
    assert (pre(features_BCHW) - post(features_BCHW)).abs().max() > 0.1
    for attention in (pre, post):
        attention.rel_pos.relative_position_bias_table.zero_()
    torch.testing.assert_close(pre(features_BCHW), post(features_BCHW))


def test_offsets_by_hand():
    assert offset_index(1, 1).tolist() == [[0]]
    assert offset_index(2, 1).tolist() == [[1, 0], [2, 1]]
    # A map of 1×2 in a table of 1×3, and of 2×2 in one of 3×3: the middle is the offset 0.
    assert offset_index(1, 2).tolist() == [[1, 0], [2, 1]]
    assert offset_index(2, 2).tolist() == [[4, 3, 1, 0], [5, 4, 2, 1], [7, 6, 4, 3], [8, 7, 5, 4]]


@settings(deadline=None, max_examples=25)
@given(height=st.integers(1, 5), width=st.integers(1, 5), kind=st.sampled_from(["table", "mlp"]))
@torch.no_grad()
def test_bias_equals_the_naive_gather(height, width, kind):
    torch.manual_seed(height * 10 + width)
    bias = BiasTable(height, width, 3) if kind == "table" else BiasMLP(3, 8)
    torch.testing.assert_close(bias(height, width, torch.float32), naive_bias(bias, height, width))


def test_resize_by_hand():
    table = torch.tensor([[0.0, 1.0], [4.0, 3.0], [2.0, 5.0]])
    taller = resize_table(table, (2, 1), (3, 1))
    assert taller.tolist() == [[0, 1], [2, 2], [4, 3], [3, 4], [2, 5]]
    assert torch.equal(resize_table(taller, (3, 1), (2, 1)), table)
    # The same numbers across instead of down.
    assert torch.equal(resize_table(table, (1, 2), (1, 3)), taller)


@pytest.mark.parametrize("size", SIZES)
def test_resize_to_its_own_size_changes_nothing(size):
    table = torch.randn((2 * size[0] - 1) * (2 * size[1] - 1), 4)
    torch.testing.assert_close(resize_table(table, size, size), table, rtol=0, atol=1e-6)


@torch.no_grad()
def test_a_map_of_another_size_uses_the_resized_table():
    bias = BiasTable(3, 3, 2)
    resized = BiasTable(4, 2, 2)
    resized.relative_position_bias_table.copy_(resize_table(bias.relative_position_bias_table, (3, 3), (4, 2)))
    torch.testing.assert_close(bias(4, 2, torch.float32), naive_bias(resized, 4, 2))


def biases() -> list[RelativeBias]:
    torch.manual_seed(0)
    return [BiasTable(3, 2, 4), BiasMLP(4, 8)]


@pytest.mark.parametrize("bias", biases(), ids=["table", "mlp"])
@pytest.mark.parametrize("size", [(3, 2), (2, 5)])
def test_cache_returns_what_a_fresh_gather_returns(bias, size):
    fresh = bias(*size, torch.float32)
    assert fresh.requires_grad and bias(*size, torch.float32) is not fresh
    with torch.no_grad():
        cached = bias(*size, torch.float32)
        assert torch.equal(cached, fresh) and bias(*size, torch.float32) is cached
        half = bias(*size, torch.bfloat16)
        assert half.dtype == torch.bfloat16 and torch.equal(half, fresh.bfloat16())
        assert torch.equal(bias(*size, torch.float32), fresh)
        assert bias(size[1], size[0], torch.float32).shape == fresh.shape
    with torch.inference_mode():
        assert torch.equal(bias(*size, torch.float32), fresh)
    assert bias(*size, torch.float32).requires_grad


@pytest.mark.parametrize("name", ["relative_position_bias_table", "fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"])
@torch.no_grad()
def test_cache_is_refreshed_when_any_weight_changes(name):
    bias = biases()[0 if "table" in name else 1]
    weight = dict(bias.named_parameters())[name if "table" in name else f"mlp.{name}"]
    before = bias(3, 2, torch.float32)
    weight.add_(torch.randn_like(weight))
    after = bias(3, 2, torch.float32)
    assert not torch.equal(after, before)
    torch.testing.assert_close(after, naive_bias(bias, 3, 2))


@pytest.mark.parametrize("index", [0, 1], ids=["table", "mlp"])
@torch.no_grad()
def test_cache_is_refreshed_when_weights_are_loaded_or_converted(index):
    bias, other = biases()[index], biases()[index]
    for parameter in other.parameters():
        parameter.add_(1)
    bias(3, 2, torch.float32)
    bias.load_state_dict(other.state_dict())
    torch.testing.assert_close(bias(3, 2, torch.float32), naive_bias(other, 3, 2))
    bias.load_state_dict({key: 2 * value for key, value in other.state_dict().items()}, assign=True)
    assert not torch.equal(bias(3, 2, torch.float32), naive_bias(other, 3, 2))
    torch.testing.assert_close(bias(3, 2, torch.float32), naive_bias(bias, 3, 2))


class Interrupted(BiasTable):
    """Whenever an attribute was set, another thread asks for `other_size` before this one goes on."""

    other_size: tuple[int, int] | None = None
    others: list[torch.Tensor]

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if self.other_size is not None:
            with ThreadPoolExecutor(1) as threads:
                self.others.append(threads.submit(ask, self, self.other_size).result())


def ask(bias: RelativeBias, size: tuple[int, int]) -> torch.Tensor:
    with torch.no_grad():
        return BiasTable.forward(bias, *size, torch.float32)


@pytest.mark.parametrize("other_size", [(3, 2), (2, 2)])
def test_threads_do_not_get_each_others_bias(other_size):
    bias = Interrupted(3, 2, 4).eval()
    alone = BiasTable(3, 2, 4).eval()
    alone.load_state_dict(bias.state_dict())
    vars(bias).update(others=[], other_size=other_size)
    found = ask(bias, (3, 2))
    torch.testing.assert_close(found, ask(alone, (3, 2)))
    assert bias.others
    for other in bias.others:
        torch.testing.assert_close(other, ask(alone, other_size))


def test_a_network_made_in_inference_mode_works():
    with torch.inference_mode():
        bias = BiasTable(3, 2, 4)
        torch.testing.assert_close(bias(3, 2, torch.float32), naive_bias(bias, 3, 2))


def test_gradient_reaches_every_weight():
    for kind in ("pre", "post"):
        attention = random_attention((3, 2), TransformerConfig(attention=kind, head_dim=4))
        attention(torch.randn(2, 8, 3, 2)).square().sum().backward()
        assert all(parameter.grad.abs().sum() > 0 for parameter in attention.parameters())


@pytest.mark.parametrize("config", [TransformerConfig(), TransformerConfig(widen_in="proj", pool="max", norm="batch")])
@pytest.mark.parametrize("channels", [(32, 64), (64, 64)])
def test_block_halves_the_map_and_widens_the_channels(config, channels):
    for stride in (1, 2):
        block = TransformerBlock(*channels, stride=stride, size=(4, 4), config=config, drop_path=0.0).eval()
        assert block(torch.randn(2, channels[0], 4 * stride, 4 * stride)).shape == (2, channels[1], 4, 4)


def test_block_is_residual():
    config = TransformerConfig(layer_scale=0.0)
    features = torch.randn(2, 32, 4, 4)
    same = TransformerBlock(32, 32, stride=1, size=(4, 4), config=config, drop_path=0.0)
    torch.testing.assert_close(same(features), features)
    halved = TransformerBlock(32, 32, stride=2, size=(2, 2), config=config, drop_path=0.0)
    torch.testing.assert_close(halved(features), F.avg_pool2d(features, 2))
    changed = TransformerBlock(32, 32, stride=1, size=(4, 4), config=replace(config, layer_scale=1.0), drop_path=0.0)
    assert (changed(features) - features).abs().max() > 0.01


def test_attention_is_pre_or_post():
    with pytest.raises(UsageError, match="^expected attention among pre, post, got 'mid'$"):
        TransformerConfig(attention="mid")
    with pytest.raises(UsageError, match="^expected attention among pre, post, got 'pst'; did you mean 'post'.$"):
        TransformerConfig(attention="pst")
