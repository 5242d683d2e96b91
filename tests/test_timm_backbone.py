"""Backbones by name, and timm's from a local file to search results; weights by the rule of tests/parity."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from test_timm_weights import NANO, assert_parity, fill, filled

from indexer import Index
from retrieval import backbones
from retrieval.backbones import load_backbone
from retrieval.coatnet import CONFIGS, CoAtNet
from retrieval.errors import UsageError, WeightsError
from retrieval.timm_weights import CONFIGS as TIMM_CONFIGS
from retrieval.timm_weights import load
from ui import cli


def write_filled(name: str, path: Path) -> Path:
    """A file with the weights of timm's model `name`, classifier included."""
    config = TIMM_CONFIGS[name]
    with torch.device("meta"):
        shapes = CoAtNet(config.from_dict({**config.to_dict(), "num_classes": 10})).state_dict()
    counters = "num_batches_tracked"
    state = {
        key: torch.tensor(0) if key.endswith(counters) else torch.from_numpy(fill(key, list(value.shape)))
        for key, value in shapes.items()
    }
    save_file(state, path)
    return path


@pytest.fixture(scope="module")
def nano(tmp_path_factory) -> Path:
    return write_filled(NANO, tmp_path_factory.mktemp("weights") / "nano.safetensors")


def test_timm_s_feature_map_without_its_classifier(nano):
    network = load_backbone(f"timm:{NANO}.sw_in1k", nano)
    assert network.config == TIMM_CONFIGS[NANO] and not network.training
    assert not [key for key in network.state_dict() if key.startswith("head")]
    assert_parity(network, f"{NANO}-224")


def test_tables_are_resized_for_the_image_size(nano):
    network = load_backbone(f"timm:{NANO}", nano, 64)
    assert network.config.image_size == 64
    pixels = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(network(pixels), load(NANO, nano)(pixels), rtol=1e-4, atol=1e-4)


def test_a_fresh_backbone():
    assert load_backbone("coatnet_micro").config == CONFIGS["coatnet_micro"]
    assert load_backbone("coatnet_micro", image_size=32).config.image_size == 32


def test_weights_of_our_own_backbones(tmp_path):
    path = tmp_path / "micro.safetensors"
    state = load_backbone("coatnet_micro").state_dict()
    save_file(state, path)
    held = load_backbone("coatnet_micro", path).state_dict()
    assert held.keys() == state.keys() and all(torch.equal(held[key], state[key]) for key in state)


def test_pixels_that_timm_normalises_in_another_way(nano, monkeypatch):
    mean, deviation = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    assert backbones._PIXELS == {"coatnet_bn_0_rw_224": (mean, deviation)}
    monkeypatch.setitem(backbones._PIXELS, NANO, (mean, deviation))
    ours, theirs = load_backbone(f"timm:{NANO}", nano), load(NANO, nano)
    unit = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    mean_3, deviation_3 = (torch.tensor(values).view(3, 1, 1) for values in (mean, deviation))
    with torch.no_grad():
        found, expected = ours.stem(unit * 2 - 1), theirs.stem((unit - mean_3) / deviation_3)
    # All but the ring that padding reaches, through two convolutions.
    torch.testing.assert_close(found[..., 2:-2, 2:-2], expected[..., 2:-2, 2:-2], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(theirs.stem(unit * 2 - 1), expected, atol=0.1)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "coatnet_mikro",
            "^expected a backbone such as coatnet_micro, .*, got 'coatnet_mikro'; did you mean 'coatnet_micro'.$",
        ),
        ("timm:coatnet_rmlp2_rw_224", "^expected a backbone such as timm:coatnet_rmlp_2_rw_224, .*, got 'timm:coatnet"),
        ("TIMM:CoAtNet_rmlp_2_rw_224", "did you mean 'timm:coatnet_rmlp_2_rw_224'.$"),
        ("coatnet_rmlp_2_rw_224", "got 'coatnet_rmlp_2_rw_224'; timm's go by 'timm:coatnet_rmlp_2_rw_224'$"),
        ("#", "^expected a backbone such as coatnet_0, coatnet_1, .*vit_rel_small, got '#'$"),
        (f"timm:{NANO}", f"^expected weights for timm:{NANO}, got none; give them as a local .safetensors file$"),
    ],
)
def test_names_that_are_none(spec, message):
    with pytest.raises(UsageError, match=message):
        load_backbone(spec)


def test_weights_that_do_not_fit(nano):
    with pytest.raises(
        WeightsError, match="^expected a .safetensors file or 'hf-hub:owner/model', got no.safetensors$"
    ):
        load_backbone(f"timm:{NANO}", "no.safetensors")
    for spec in ("timm:coatnet_rmlp_nano_rw_224", "coatnet_micro"):
        with pytest.raises(
            WeightsError, match="^expected the entries of a CoAtNet of this name, got a state dict that"
        ):
            load_backbone(spec, nano)
    state = {key: value for key, value in filled(f"{NANO}-224").items() if key != "stem.conv1.weight"}
    with pytest.raises(WeightsError, match="lacks .'stem.conv1.weight'."):
        load_backbone(f"timm:{NANO}", state)


def assert_pictures_find_themselves(name: str, weights: Path, folder: Path, capsys) -> None:
    """`train head`, `index`, then a search for each picture, which must come first itself."""
    paths = [folder / f"{number}.png" for number in range(8)]
    for number, path in enumerate(paths):
        coarse = np.random.default_rng(number).integers(0, 256, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((80, 80), Image.Resampling.BICUBIC).save(path)
    model, index = str(folder / "model"), str(folder / "my.index")
    backbone = ["--backbone", f"timm:{name}", "--backbone-weights", str(weights), "--image-size", "64"]
    here = ["--workers", "0", "--device", "cpu"]
    assert cli.run(["train", "head", "--data", *map(str, paths), "--out", model, *backbone, *here, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["num_images"] == 8
    assert cli.run(["index", *map(str, paths), "--model", model, "--index", index, *here]) == 0
    capsys.readouterr()
    searched = Index.open(index, device="cpu")  # the weights are read but once
    for path in paths:
        best = searched.search(path, top_k=1)[0]
        assert best.uri == str(path) and best.similarity > 0.99
    config = json.loads((folder / "model" / "config.json").read_text())
    recipe = config["notes"]["recipe"]
    assert (recipe["backbone"], recipe["backbone_weights"]) == (f"timm:{name}", weights.name)
    assert config["embedder"]["backbone"]["num_classes"] == 0 and config["embedder"]["image_size"] == 64


def test_from_timm_s_weights_to_hits(nano, tmp_path, capsys):
    assert_pictures_find_themselves(NANO, nano, tmp_path, capsys)


@pytest.mark.slow
def test_from_the_largest_that_a_cpu_bears_to_hits(tmp_path, capsys):
    name = "coatnet_rmlp_2_rw_224"
    weights = write_filled(name, tmp_path / "model.safetensors")
    assert_pictures_find_themselves(name, weights, tmp_path, capsys)
