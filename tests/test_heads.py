"""`train head` from the command line: from pictures without labels to a model that finds them."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from retrieval import Embedder

NUM = 40
SMALL = "--backbone coatnet_micro --image-size 32 --budget 34 --workers 0 --device cpu".split()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """<number>.png, soft blobs of colour."""
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(NUM):
        coarse = np.random.default_rng(number).integers(0, 256, (4 + number % 5, 5, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((48, 40), Image.Resampling.BICUBIC).save(folder / f"{number:02d}.png")
    return folder


@pytest.fixture(scope="module")
def table(folder) -> Path:
    """The same as parquet: every fourth is for testing."""
    rows = [
        {"image": path.read_bytes(), "split": "train" if number % 4 else "test"}
        for number, path in enumerate(sorted(folder.iterdir()))
    ]
    path = folder.parent / f"{folder.name}.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def test_from_pictures_to_hits(spyglass, folder, tmp_path):
    model, index = tmp_path / "model", tmp_path / "my.index"
    code, out, err = spyglass("train", "head", "--data", folder, "--out", model, *SMALL, "--json")
    report = json.loads(out)
    assert code == 0
    assert (report["num_images"], report["num_axes"], report["skipped"]) == (NUM, NUM - 1, 0)
    assert report["mean_dim"] == pytest.approx(34, abs=0.1)
    assert err.splitlines() == [
        "warning: coatnet_micro is untrained: give its weights with --backbone-weights for better hits",
        "warning: 40 pictures span 39 axes: numbers beyond are zero; give more pictures",
    ]
    assert Embedder.load(model, device="cpu").fingerprint == report["fingerprint"]
    notes = json.loads((model / "config.json").read_text())["notes"]
    assert notes["data"] == [folder.name] and notes["fit"]["share"] == report["share"]
    assert notes["recipe"] == {
        "command": "train head",
        "backbone": "coatnet_micro",
        "backbone_weights": None,
        "whitening": 0.5,
        "budget": 34.0,
        "pooling": "mean",
    }

    options = ["--index", index, "--workers", "0", "--device", "cpu"]
    assert spyglass("index", folder, "--model", model, *options)[0] == 0
    code, out, _ = spyglass("info", "--index", index, "--json")
    assert json.loads(out)["mean_dim"] == pytest.approx(report["mean_dim"], abs=0.5)
    for name in ("03.png", "17.png"):
        code, out, _ = spyglass("search", folder / name, "--index", index, "--device", "cpu", "--json", "-k", "3")
        hits = json.loads(out)["hits"]
        assert code == 0 and hits[0]["id"] == name and hits[0]["similarity"] > 0.99


def test_the_shipped_model_with_another_head(spyglass, folder, tmp_path):
    model = tmp_path / "model"
    options = "--whitening 0.7 --budget 33 --image-size 64 --workers 0 --device cpu".split()
    code, out, err = spyglass("train", "head", "--data", folder, "--out", model, *options)
    assert code == 0 and "untrained" not in err
    assert out.splitlines()[0] == f"pictures  {NUM}" and out.splitlines()[-1] == f"model     {model}"
    shipped, fitted = Embedder.load(device="cpu"), Embedder.load(model, device="cpu")
    assert fitted.image_size == 64 and fitted.config.backbone == shipped.config.backbone
    held = fitted.network.backbone.state_dict()
    assert all(held[key].equal(value) for key, value in shipped.network.backbone.state_dict().items())
    recipe = json.loads((model / "config.json").read_text())["notes"]["recipe"]
    assert (recipe["model"], recipe["model_fingerprint"]) == ("default", shipped.fingerprint)


def test_a_broken_picture_is_skipped_counted_and_named(spyglass, folder, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    arguments = ["train", "head", *SMALL, "--data", broken, folder, "--out"]
    code, out, err = spyglass(*arguments, tmp_path / "model", "--json")
    report = json.loads(out)
    assert code == 3 and (report["num_images"], report["skipped"]) == (NUM, 1)
    assert report["failures"][0]["uri"] == str(broken)
    assert f"skipped {broken}: expected a JPEG, PNG" in err
    code, out, _ = spyglass(*arguments, tmp_path / "other")
    assert code == 3 and out.startswith(f"pictures  {NUM}, 1 skipped\n")


def test_a_split_and_even_steps(spyglass, folder, table, tmp_path):
    def head(name: str, *arguments: str | Path) -> tuple[int, str, str]:
        return spyglass("train", "head", "--out", tmp_path / name, *SMALL, "--json", "--data", *arguments)

    assert json.loads(head("test", table, "--split", "test")[1])["num_images"] == NUM // 4
    both = json.loads(head("both", table, folder, "--split", "test")[1])
    assert both["num_images"] == NUM // 4 + NUM  # what has no splits is taken whole
    code, out, err = head("some", table, "--max-images", "15")
    assert json.loads(out)["num_images"] == 14
    assert "warning: took one in 3 of 40 pictures; --max-images sets how many" in err
    code, _, err = head("none", table, "--split", "val")
    assert code == 2 and f"expected a split among test, train in {table}, got 'val'" in err


def test_few_pictures_say_what_they_cannot_do(spyglass, folder, tmp_path):
    paths = sorted(folder.iterdir())
    head = ["train", "head", *SMALL, "--out", tmp_path / "model", "--data"]
    code, _, err = spyglass(*head, *paths[:5])
    assert code == 0
    assert "warning: 5 pictures span 4 axes: numbers beyond are zero; give more pictures" in err
    assert "warning: the mean dimension is 32.0, not 34: 4 axes carry all" in err
    head[head.index("--out") + 1] = tmp_path / "other"
    code, _, err = spyglass(*head, paths[0])
    assert code == 2 and err.splitlines()[-1] == "error: expected at least 2 pictures to fit a head to, got 1"
    (tmp_path / "empty").mkdir()
    code, _, err = spyglass(*head, tmp_path / "empty")
    assert code == 2 and err.splitlines()[-1] == "error: expected at least 2 pictures to fit a head to, got 0"


def test_a_model_is_never_overwritten(spyglass, folder, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    code, out, err = spyglass("train", "head", "--data", folder, "--out", tmp_path, *SMALL)
    assert (code, out) == (2, "")
    assert err == (
        f"error: expected --out without a model, got {tmp_path}, which holds one; name another, or remove that one\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ("--model default --backbone coatnet_micro", 2, "expected --model or --backbone, got both; choose one"),
        ("--pooling mean", 2, "expected --backbone beside --pooling, got none; a model brings its own"),
        ("--backbone-weights a.safetensors", 2, "expected --backbone beside --backbone-weights, got none; a model"),
        ("--whitening 2", 2, "expected a whitening within 0 (plain axes) to 1 (full), got 2"),
        ("--budget 600", 2, "expected a budget within 32..512, got 600"),
        ("--image-size 33", 2, "expected an --image-size that 16 divides, got 33"),
        ("--backbone coatnet_mikro", 2, "expected a backbone such as coatnet_micro, "),
        ("--backbone coatnet_micro --pooling median", 2, "expected a pooling among sigmoid, "),
        ("--backbone coatnet_micro --backbone-weights no.safetensors", 1, "got no.safetensors"),
        ("--model no/such/model", 1, "expected a folder with config.json and model.safetensors, got no/such/model"),
        ("--out {folder}/00.png", 2, "expected --out to be a folder to write to, got "),
        ("--data {folder}/nothing.png", 1, "expected a folder or file to index, found nothing at "),
    ],
)
def test_wrong_usage(spyglass, folder, tmp_path, options, code, message):
    start = ["train", "head", "--data", folder, "--out", tmp_path / "model", "--workers", "0"]
    found, out, err = spyglass(*start, *options.format(folder=folder).split())
    assert (found, out) == (code, "")
    assert err.startswith("error: ") and message in err and err.count("\n") == 1
    assert not (tmp_path / "model").exists()
