"""timm's weights in our network: the feature maps that timm computes, and every way in which a file may not fit.

tests/parity holds state-dict names and shapes, and part of each feature map, as timm 1.0.31 has them; the weights
themselves come from `fill`, the rule that timm's were filled by.
"""

import functools
import json
import sys
import types
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from retrieval.coatnet import CoAtNet
from retrieval.errors import MissingExtraError, UsageError, WeightsError
from retrieval.layers.relative_bias import resize_table
from retrieval.timm_weights import CONFIGS, load

PARITY = Path(__file__).parent / "parity"
CASES = sorted(path.stem for path in PARITY.glob("*.json"))
NANO = "coatnet_nano_rw_224"


def fill(name: str, shape: list[int]) -> np.ndarray:
    random = np.random.RandomState(zlib.crc32(name.encode()) & 0x7FFFFFFF)
    if name.endswith("running_var"):
        return (0.5 + random.rand(*shape)).astype("f4")
    if name.endswith("running_mean") or name.endswith("bias"):
        return (0.1 * random.randn(*shape)).astype("f4")
    if len(shape) == 1:
        return (1 + 0.1 * random.randn(*shape)).astype("f4")
    if name.endswith("relative_position_bias_table"):
        return (0.5 * random.randn(*shape)).astype("f4")
    return (random.randn(*shape) / np.sqrt(int(np.prod(shape[1:])))).astype("f4")


def described(case: str) -> dict:
    return json.loads((PARITY / f"{case}.json").read_text())


@functools.cache
def filled(case: str) -> dict[str, torch.Tensor]:
    shapes = described(case)["state_dict"]
    unfilled = ("num_batches_tracked", "relative_coords_table")
    return {
        key: torch.zeros(shape) if key.endswith(unfilled) else torch.from_numpy(fill(key, shape))
        for key, shape in shapes.items()
    }


@pytest.fixture(scope="module")
def nano() -> dict[str, torch.Tensor]:
    return filled(f"{NANO}-224")


def assert_parity(network: CoAtNet, case: str) -> None:
    size = described(case)["size"]
    pixels = np.random.RandomState(7).rand(2, 3, size, size).astype("f4") * 2 - 1
    with torch.no_grad():
        features = network(torch.from_numpy(pixels)).numpy()
    expected = np.load(PARITY / f"{case}.npy")
    assert list(features.shape) == described(case)["feature_map"]
    assert np.abs(features[:, :, ::2, ::2] - expected).max() <= 1e-3 * described(case)["std"]


def assert_holds(network: CoAtNet, state: dict[str, torch.Tensor]) -> None:
    held = network.state_dict()
    assert all(torch.equal(held[key], value) for key, value in state.items())


def test_there_is_something_to_compare_with():
    assert len(CASES) >= 4 and {case.rsplit("-", 1)[1] for case in CASES} == {"160", "224"}


@pytest.mark.parametrize("case", CASES)
def test_feature_map_and_size_are_timm_s(case):
    wanted, state = described(case), filled(case)
    num_channels = wanted["feature_map"][1]
    classifier = {"head.fc.weight": torch.zeros(1000, num_channels), "head.fc.bias": torch.arange(1000.0)}
    network = load(wanted["model"], state | classifier, image_size=wanted["size"])
    assert not network.training and network.config.image_size == wanted["size"] and network.config.num_classes == 1000
    assert_parity(network, case)
    if wanted["params_with_1000_class_head"] is not None:
        num_parameters = sum(parameter.numel() for parameter in network.parameters())
        assert num_parameters == wanted["params_with_1000_class_head"]
    with torch.no_grad():
        assert network.classify(torch.zeros(1, 3, 32, 32))[0].tolist() == list(range(1000))


@pytest.mark.parametrize(
    ("name", "num_classes", "millions"),
    [
        ("coatnet_0_224", 1000, 25.04),
        ("coatnet_1_224", 1000, 42.23),
        ("coatnet_2_224", 1000, 74.68),
        ("coatnet_3_224", 1000, 166.97),
        ("coatnet_4_224", 1000, 275.43),
        ("coatnet_5_224", 1000, 687.47),
        ("coatnet_nano_rw_224", 1000, 15.14),
        ("coatnet_0_rw_224", 1000, 27.44),
        ("coatnet_1_rw_224", 1000, 41.72),
        ("coatnet_2_rw_224", 1000, 73.87),
        ("coatnet_3_rw_224", 11821, 181.81),
        ("coatnet_bn_0_rw_224", 1000, 27.44),
        ("coatnet_rmlp_nano_rw_224", 1000, 15.15),
        ("coatnet_rmlp_0_rw_224", 1000, 27.45),
        ("coatnet_rmlp_1_rw_224", 1000, 41.69),
        ("coatnet_rmlp_1_rw2_224", 1000, 41.72),
        ("coatnet_rmlp_2_rw_224", 1000, 73.88),
        ("coatnet_rmlp_2_rw_384", 1000, 73.88),
        ("coatnet_rmlp_3_rw_224", 1000, 165.15),
    ],
)
def test_every_variant_is_known_and_has_its_size(name, num_classes, millions):
    config = CONFIGS[name]
    with torch.device("meta"):
        network = CoAtNet(config.from_dict({**config.to_dict(), "num_classes": num_classes}))
    assert sum(parameter.numel() for parameter in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.0051)
    assert config.image_size == int(name.rsplit("_", 1)[1])


def test_a_local_file(nano, tmp_path):
    path = tmp_path / "with a space.safetensors"
    save_file(nano, path)
    for given in (path, str(path)):
        assert_holds(load(f"{NANO}.sw_in1k", given), nano)


def test_float16_weights_are_read_as_float32(nano):
    network = load(NANO, {key: value.half() if value.is_floating_point() else value for key, value in nano.items()})
    assert all(parameter.dtype == torch.float32 for parameter in network.parameters())
    assert torch.equal(network.state_dict()["stem.conv1.weight"], nano["stem.conv1.weight"].half().float())


def test_tables_made_for_another_size_are_resized(nano):
    network = load(NANO, nano, image_size=160)
    key = "stages.2.blocks.0.attn.rel_pos.relative_position_bias_table"
    expected = resize_table(nano[key], (14, 14), (10, 10))
    torch.testing.assert_close(network.state_dict()[key], expected)
    # What a network made for 224 makes of 160 pixels is the same, and the given state dict is left alone.
    pixels = torch.randn(1, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(network(pixels), load(NANO, nano)(pixels), rtol=1e-4, atol=1e-4)
    assert len(nano[key]) == 27 * 27


def test_buffers_that_we_compute_ourselves_may_be_there(nano):
    prefix = "stages.2.blocks.0.attn.rel_pos."
    extra = {prefix + key: torch.zeros(3) for key in ("relative_position_index", "rel_coords_log")}
    assert load(NANO, nano | extra).config.num_classes == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stem.conv1.weight": None}, r"lacks \['stem.conv1.weight'\] and adds none \(1 and 0 in all\)$"),
        ({"stages.9.foo": torch.zeros(1)}, r"lacks none and adds \['stages.9.foo'\] \(0 and 1 in all\)$"),
        ({"norm.weight": torch.zeros(3)}, r"^expected norm.weight of shape \(512,\), got \(3,\)$"),
        ({"head.fc.weight": torch.zeros(10, 512)}, r"lacks \['head.fc.bias'\]"),
        (
            {"stages.3.blocks.0.attn.rel_pos.relative_position_bias_table": torch.zeros(10, 16)},
            r"^expected a table of \(2s−1\)² offsets in stages.3.blocks.0.attn.rel_pos.*, got 10$",
        ),
        (
            {"stages.3.blocks.0.attn.rel_pos.relative_position_bias_table": torch.zeros(169, 5)},
            r"^expected stages.3.blocks.0.* of shape \(169, 8\), got \(169, 5\)$",
        ),
    ],
)
def test_a_state_dict_that_does_not_fit(nano, changes, message):
    state = {key: value for key, value in (nano | changes).items() if value is not None}
    with pytest.raises(WeightsError, match=message):
        load(NANO, state)


def test_a_state_dict_of_another_model(nano):
    with pytest.raises(WeightsError, match="^expected the entries of a CoAtNet of this name, got a state dict that la"):
        load("coatnet_rmlp_nano_rw_224", nano)


def test_an_unknown_name(nano):
    with pytest.raises(UsageError, match="^expected a timm model among coatnet_0_224, .*, got 'vit_base'$"):
        load("vit_base", nano)


def test_an_image_size_that_does_not_fit(nano):
    with pytest.raises(UsageError, match="multiples of 32, got 200×200"):
        load(NANO, nano, image_size=200)


def test_files_that_are_none(tmp_path):
    (tmp_path / "broken.safetensors").write_bytes(b"no header here")
    with pytest.raises(WeightsError, match="^expected whole safetensors in .*broken.safetensors, got a file that does"):
        load(NANO, tmp_path / "broken.safetensors")
    (tmp_path / "weights.pth").write_bytes(b"a pickle, perhaps")
    for path in ("weights.pth", "missing.safetensors", "."):
        with pytest.raises(WeightsError, match="^expected a .safetensors file or 'hf-hub:owner/model', got "):
            load(NANO, tmp_path / path)


def pretend_hub(monkeypatch, download) -> None:
    hub = types.ModuleType("huggingface_hub")
    hub.hf_hub_download = download
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)


def test_from_the_hub(nano, tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    save_file(nano, path)
    asked = []
    pretend_hub(monkeypatch, lambda *arguments: asked.append(arguments) or str(path))
    assert_holds(load(NANO, "hf-hub:timm/coatnet_nano_rw_224.sw_in1k"), nano)
    assert asked == [("timm/coatnet_nano_rw_224.sw_in1k", "model.safetensors")]


def test_the_hub_without_a_network(monkeypatch):
    def download(*_):
        raise OSError("no route\nto host")

    pretend_hub(monkeypatch, download)
    with pytest.raises(WeightsError, match="^expected to download 'hf-hub:a/b', got: no route to host; bring a local"):
        load(NANO, "hf-hub:a/b")


def test_the_hub_without_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'spyglass-image-search\[hub\]', or bring a local file$"):
        load(NANO, "hf-hub:a/b")
