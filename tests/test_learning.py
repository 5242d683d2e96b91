"""`train embedder` and `evaluate`, from the command line."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from retrieval import Embedder
from ui.cli import run

TINY = "--backbone coatnet_micro --epochs 1 --batch-size 8 --image-size 32 --train-size 32".split()


def picture(colour: tuple[int, int, int], seed: int) -> Image.Image:
    noise = np.random.default_rng(seed).integers(-30, 30, (40, 40, 3))
    return Image.fromarray((np.array(colour) + noise).clip(0, 255).astype(np.uint8))


COLOURS = {"red": (200, 40, 40), "green": (40, 180, 60), "blue": (40, 60, 200), "grey": (128, 128, 128)}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """labelled/<colour>/<number>.png"""
    root = tmp_path_factory.mktemp("labelled")
    for name, colour in COLOURS.items():
        (root / name).mkdir()
        for number in range(6):
            picture(colour, number).save(root / name / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def table(folders):
    """The same as parquet: red and green to train on, blue and grey to validate on."""
    rows = [
        {
            "image": (folders / name / f"{number}.png").read_bytes(),
            "label": name,
            "split": "train" if name in ("red", "green") else "val",
        }
        for name in COLOURS
        for number in range(6)
    ]
    path = folders.parent / "colours.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def test_evaluate_prints_the_comparison(folders, capsys):
    assert run(["evaluate", "--data", str(folders), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["model"] == "default" and report["images"] == 24 and report["classes"] == 4
    names = [row["name"] for row in report["rows"]]
    widths = ["fixed 32", "fixed 64", "fixed 128", "fixed 256", "fixed 512"]
    assert names == ["adaptive", *widths, "raw pixels 32x32"]
    assert {"recall@1", "recall@5", "recall@10", "map@r", "mean_dim", "std_dim"} <= report["rows"][0].keys()
    assert sum(report["buckets"].values()) == pytest.approx(1)
    assert report["rows"][0]["recall@1"] > 50  # four colours: chance is 22

    assert run(["evaluate", "--data", str(folders)]) == 0
    assert "adaptive" in capsys.readouterr().out


def test_several_sources_behind_one_option(folders, table, capsys):
    assert run(["evaluate", "--data", str(folders), str(table), "--split", "val", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 24 + 12


def test_a_split_that_is_not_there(table, capsys):
    assert run(["evaluate", "--data", str(table), "--split", "test"]) == 2
    assert "expected a split among train, val" in capsys.readouterr().err


@pytest.mark.parametrize("source", ["folders", "table"])
def test_training_leaves_a_model_that_loads_and_resumes(source, request, tmp_path, capsys):
    data = str(request.getfixturevalue(source))
    arguments = ["train", "embedder", "--data", data, "--out", str(tmp_path / "model"), *TINY, "--json"]
    assert run(arguments) == 0
    report = json.loads(capsys.readouterr().out)
    embedder = Embedder.load(tmp_path / "model", device="cpu")
    assert embedder.fingerprint == report["fingerprint"] and embedder.image_size == 32
    notes = json.loads((tmp_path / "model" / "config.json").read_text())["notes"]
    assert notes["recipe"]["epochs"] == 1 and notes["validation"]["recall@1"] == report["validation"]["recall@1"]

    assert run(arguments) == 0, "a finished run, asked for again, finishes from its checkpoint"
    assert json.loads(capsys.readouterr().out)["fingerprint"] == report["fingerprint"]


def test_classes_in_both_splits_are_refused(folders, tmp_path, capsys):
    rows = [
        {"image": (folders / "red" / f"{number}.png").read_bytes(), "label": "red", "split": split}
        for number, split in enumerate(["train", "val"])
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "shared.parquet")
    data = ["--data", str(tmp_path / "shared.parquet"), "--out", str(tmp_path / "model")]
    assert run(["train", "embedder", *data]) == 2
    assert "expected other classes in split val than in train, got 1 in both, such as 'red'" in capsys.readouterr().err
