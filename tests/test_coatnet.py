"""CoAtNet: exact sizes, shapes for every layout and stem, and the same numbers whatever the memory format."""

import json

import pytest
import torch
from torch import nn

from retrieval.coatnet import CONFIGS, CoAtNet, CoAtNetConfig, check_size, create
from retrieval.errors import UsageError
from retrieval.layers.attention import TransformerConfig
from retrieval.layers.folding import fold_batch_norms
from retrieval.layers.mbconv import MBConv, MBConvConfig
from retrieval.layers.norm import DropPath
from retrieval.layers.stem import Conv16Stem, PatchStem

TINY_STEM = {"channels": (64,), "depths": (2,), "layout": "T", "strides": (1,), "stem_channels": (16, 64)}


def num_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def settled(network: CoAtNet) -> CoAtNet:
    """In eval mode, with weights and statistics as if it had been trained a little."""
    for name, value in network.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
        elif name.endswith("running_mean"):
            value.normal_(std=0.1)
        elif name.endswith("relative_position_bias_table"):
            value.normal_(std=0.5)
    return network.eval()


@pytest.fixture(scope="module")
def micro() -> CoAtNet:
    torch.manual_seed(0)
    return settled(create("coatnet_micro", num_classes=7))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("coatnet_0", 25_036_820),
        ("coatnet_1", 42_225_776),
        ("coatnet_2", 74_684_744),
        ("coatnet_3", 166_966_264),
        ("coatnet_4", 275_425_288),
        ("coatnet_5", 687_472_008),
    ],
)
def test_parameter_counts_of_the_paper_s_sizes(name, expected):
    with torch.device("meta"):
        assert num_parameters(create(name, num_classes=1000)) == expected


@pytest.mark.parametrize(
    ("name", "billions", "num_channels"), [("coatnet_6", (1.3, 1.7), 2048), ("coatnet_7", (2.2, 2.7), 3072)]
)
def test_the_largest_two_mix_both_kinds_of_block_in_s3(name, billions, num_channels):
    with torch.device("meta"):
        network = create(name, num_classes=1000)
        assert billions[0] < num_parameters(network) / 1e9 < billions[1]
        assert network(torch.empty(1, 3, 224, 224)).shape == (1, num_channels, 7, 7)
    assert network.config.layout == "CCCTT" and network.config.strides[3] == 1


@pytest.mark.parametrize(("name", "millions"), [("coatnet_micro", (1.2, 1.8)), ("coatnet_mini", (4, 6))])
def test_small_ones(name, millions):
    network = create(name)
    assert millions[0] < num_parameters(network) / 1e6 < millions[1]
    for side in (64, 128):
        assert network.eval()(torch.zeros(1, 3, side, side)).shape[2:] == (side // 16, side // 16)


@pytest.mark.parametrize("attention", ["pre", "post"])
@pytest.mark.parametrize("layout", ["CCTT", "CCCT", "CTTT"])
@torch.no_grad()
def test_every_layout_at_several_sizes(layout, attention):
    network = create("coatnet_micro", layout=layout, attention=attention).eval()
    assert network.config.transformer.attention == attention
    for height, width in ((64, 64), (32, 80), (96, 48), (16, 16)):
        features = network(torch.randn(2, 3, height, width))
        assert features.shape == (2, 256, height // 16, width // 16) and features.isfinite().all()


@pytest.mark.parametrize("stem", ["conv16", "patch"])
@torch.no_grad()
def test_attention_alone_after_a_stem_of_stride_16(stem):
    network = create("vit_rel_small", stem=stem, image_size=64, **TINY_STEM).eval()
    assert network.stride == 16 and not any(isinstance(module, MBConv) for module in network.modules())
    for height, width in ((64, 64), (32, 80)):
        features = network(torch.randn(2, 3, height, width))
        assert features.shape == (2, 64, height // 16, width // 16) and features.isfinite().all()


@pytest.mark.parametrize("stem", ["conv16", "patch"])
def test_a_stem_of_stride_16_can_be_given_to_any_network(stem):
    layout = {key: value for key, value in TINY_STEM.items() if key != "strides"}
    network = create("coatnet_0", stem=stem, image_size=64, **layout)
    assert network.stride == 16 and network.config.strides == (1,)


@torch.no_grad()
def test_patch_stem_by_hand():
    torch.manual_seed(0)
    stem = PatchStem(5)
    pixels = torch.randn(1, 3, 32, 48)
    embedded = stem(pixels)
    assert embedded.shape == (1, 5, 2, 3)
    for row in range(2):
        for column in range(3):
            v = pixels[0, :, 16 * row : 16 * (row + 1), 16 * column : 16 * (column + 1)].flatten()
            e = stem.project.weight @ v + stem.project.bias
            torch.testing.assert_close(embedded[0, :, row, column], e, rtol=1e-4, atol=1e-5)


def test_conv16_stem_has_stride_16():
    stem = Conv16Stem((8, 12), "gelu")
    assert stem(torch.randn(2, 3, 32, 48)).shape == (2, 12, 2, 3)


@torch.no_grad()
def test_classification(micro):
    pixels = torch.randn(3, 3, 64, 64)
    logits = micro.classify(pixels)
    assert logits.shape == (3, 7)
    torch.testing.assert_close(logits, micro.head.fc(micro(pixels).mean((2, 3))))
    hidden = create("coatnet_micro", num_classes=5, head_hidden=24).eval()
    assert hidden.classify(pixels).shape == (3, 5)
    pooled = hidden(pixels).mean((2, 3))
    expected = hidden.head.fc(torch.tanh(hidden.head.pre_logits.fc(hidden.head.norm(pooled))))
    torch.testing.assert_close(hidden.classify(pixels), expected)


def test_classifying_without_classes():
    with pytest.raises(UsageError, match="^expected a CoAtNet with classes, got num_classes=0; create it with num_cl"):
        create("coatnet_micro").classify(torch.zeros(1, 3, 64, 64))


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(nn.functional.cosine_similarity(a.float().flatten(1), b.float().flatten(1)).min())


@torch.no_grad()
def test_channels_last_and_bfloat16_give_the_same_answer(micro):
    pixels = torch.randn(2, 3, 64, 96)
    expected = micro(pixels)
    channels_last = micro(pixels.to(memory_format=torch.channels_last))
    torch.testing.assert_close(channels_last, expected, rtol=1e-4, atol=1e-4)
    for memory_format in (torch.contiguous_format, torch.channels_last):
        with torch.autocast("cpu", torch.bfloat16):
            half = micro(pixels.to(memory_format=memory_format))
        assert half.isfinite().all() and cosine(half, expected) > 0.99
    # Back in float32, nothing of the bfloat16 run is left.
    assert torch.equal(micro(pixels), expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("stem", ["conv", "conv16", "patch"])
@torch.no_grad()
def test_a_converted_network_computes_in_its_own_format(stem, dtype):
    torch.manual_seed(0)
    name, changes = ("coatnet_micro", {}) if stem == "conv" else ("vit_rel_small", {"stem": stem, **TINY_STEM})
    network = settled(create(name, image_size=64, **changes))
    pixels = torch.randn(2, 3, 64, 64)
    expected = network(pixels)
    converted = network.to(dtype)(pixels.to(dtype))
    assert converted.dtype == dtype and cosine(converted, expected) > 0.99


@torch.no_grad()
def test_a_picture_s_features_do_not_depend_on_its_batch(micro):
    pixels = torch.randn(3, 3, 64, 64)
    for one, feature in zip(pixels, micro(pixels), strict=True):
        torch.testing.assert_close(micro(one[None])[0], feature, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("coatnet_micro", {}),
        ("coatnet_micro", {"conv": MBConvConfig(pre_norm_activation=True, se_before_norm=True, activation="silu")}),
        ("coatnet_micro", {"conv": MBConvConfig(expand_from="input", output_bias=False, pool="max")}),
        ("vit_rel_small", {"stem": "conv16", **TINY_STEM}),
    ],
)
@torch.no_grad()
def test_folding_batch_norms_changes_no_number(name, changes):
    torch.manual_seed(0)
    network = settled(create(name, image_size=64, **changes))
    pixels, before = torch.randn(2, 3, 64, 64), {key: value.clone() for key, value in network.state_dict().items()}
    folded = fold_batch_norms(network)
    torch.testing.assert_close(folded(pixels), network(pixels), rtol=1e-3, atol=1e-3)
    num_norms = [sum(isinstance(m, nn.BatchNorm2d) for m in model.modules()) for model in (folded, network)]
    assert num_norms[0] < num_norms[1]
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_gradient_reaches_every_weight(micro):
    network = create("coatnet_micro", num_classes=7)
    network.classify(torch.randn(4, 3, 64, 64)).square().sum().backward()
    missing = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert not missing


def test_stochastic_depth():
    torch.manual_seed(0)
    drop = DropPath(0.25)
    branch = torch.ones(4000, 2, 1, 1)
    kept = drop(branch)
    assert kept.unique().tolist() == pytest.approx([0, 4 / 3])
    assert kept.mean() == pytest.approx(1, abs=0.05) and (kept[:, 0] == kept[:, 1]).all()
    assert drop.eval()(branch) is branch
    rates = [m.rate for m in create("coatnet_micro", drop_path=0.3).modules() if isinstance(m, DropPath)]
    assert rates[0] == 0 and rates[-1] == pytest.approx(0.3) and rates == sorted(rates)


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_config_survives_json(name):
    config = CONFIGS[name]
    assert CoAtNetConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("coatnet_8", {}, "^expected one of coatnet_0, .*vit_rel_small, got 'coatnet_8'; did you mean 'coatnet_7'.$"),
        ("coatnet_mni", {}, "got 'coatnet_mni'; did you mean 'coatnet_mini'.$"),
        (
            "coatnet_micro",
            {"chanels": 3, "image_size": 64},
            r"^expected fields of CoAtNetConfig, got \['chanels'\]; did you mean 'channels'.$",
        ),
        ("coatnet_micro", {"atention": "post"}, r"got \['atention'\]; did you mean 'attention'.$"),
        ("coatnet_micro", {"image_size": "64"}, "^expected image_size as int, got '64'$"),
        ("coatnet_micro", {"layout": 5}, "^expected layout as str, got 5$"),
        ("coatnet_micro", {"channels": 5}, r"^expected channels as tuple\[int, \.\.\.\], got 5$"),
        (
            "coatnet_micro",
            {"depths": (1, "2", 3, 1)},
            r"^expected depths as tuple\[int, \.\.\.\], got \(1, '2', 3, 1\)$",
        ),
        ("coatnet_micro", {"head_hidden": "9"}, r"^expected head_hidden as int \| None, got '9'$"),
        ("coatnet_micro", {"transformer": {}}, r"^expected transformer as TransformerConfig, got \{\}$"),
        ("coatnet_micro", {"attention": "post", "transformer": {}}, r"^expected transformer as TransformerConfig, got"),
        (
            "coatnet_micro",
            {"strides": (2, 2, 2, 3), "image_size": 96},
            r"^expected strides of 1 or 2, got \(2, 2, 2, 3\)",
        ),
        ("coatnet_micro", {"strides": (2, 2, 2, 0)}, r"^expected strides of 1 or 2, got \(2, 2, 2, 0\)$"),
        ("coatnet_micro", {"drop_path": 1.0}, "^expected drop_path of at least 0 and below 1, got 1.0$"),
        ("coatnet_micro", {"drop_path": float("nan")}, "^expected drop_path of at least 0 and below 1, got nan$"),
        ("coatnet_micro", {"num_classes": -3}, "^expected num_classes of 0 or more, got -3$"),
        (
            "coatnet_micro",
            {"channels": (32, 80, 128, 256), "transformer": TransformerConfig(widen_in="proj")},
            r"that 32 divides \(head_dim\), got \[80\]$",
        ),
        ("coatnet_micro", {"image_size": 100}, "^expected .* multiples of 16, got 100×100; the nearest is 96×96$"),
        ("coatnet_micro", {"channels": (64, 32, 128, 256)}, r"^expected channels that never shrink, got \(64, 32,"),
        ("coatnet_micro", {"stem_channels": (16, 128)}, "^expected channels that never shrink, got "),
        ("coatnet_micro", {"layout": "CCT"}, "^expected layout, channels, depths and strides of one length, got 'CCT'"),
        ("coatnet_micro", {"depths": (1, 2)}, r"of one length, got 'CCTT', .* \(1, 2\)"),
        ("coatnet_micro", {"depths": (1, 2, 0, 1)}, r"^expected .*depths .*got \(1, 2, 0, 1\)"),
        ("coatnet_micro", {"layout": "CXTT"}, "^expected a layout of C and T such as 'CCTT', got 'CXTT'$"),
        ("coatnet_micro", {"layout": ""}, "^expected a layout of C and T such as 'CCTT', got ''$"),
        ("coatnet_micro", {"channels": (32, 64, 130, 256)}, r"that 32 divides \(head_dim\), got \[130\]$"),
        ("coatnet_micro", {"stem": "conv8"}, "^expected stem 'conv', 'conv16' or 'patch', got 'conv8'$"),
        ("coatnet_micro", {"attention": "mid"}, "^expected attention among pre, post, got 'mid'$"),
    ],
)
def test_refused(name, overrides, message):
    with pytest.raises(UsageError, match=message):
        create(name, **overrides)


@torch.no_grad()
def test_heads_of_the_channels_before_they_grow():
    network = create("coatnet_micro", channels=(32, 64, 128, 200), transformer=TransformerConfig(widen_in="proj"))
    assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 200, 4, 4)


@pytest.mark.parametrize(
    ("config", "field"),
    [(TransformerConfig, field) for field in ("widen_in", "bias", "norm", "activation", "pool")]
    + [(MBConvConfig, field) for field in ("expand_from", "stride_in", "pool", "activation", "se_activation")],
)
def test_a_misspelt_choice_is_refused(config, field):
    with pytest.raises(UsageError, match=f"{field}.*got 'tabel'"):
        config(**{field: "tabel"})


def test_pixels_of_a_size_that_the_stride_does_not_divide(micro):
    with pytest.raises(UsageError, match="multiples of 16, got 70×64; the nearest is 64×64$"):
        micro(torch.zeros(1, 3, 70, 64))
    with pytest.raises(UsageError, match="got 3×0; the nearest is 16×16$"):
        check_size((3, 0), 16)
