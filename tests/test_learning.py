"""`train embedder`, from the command line."""

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file
from toy import COLOURS, write_coloured

from retrieval import Embedder, timm_weights
from retrieval.coatnet import CoAtNet
from ui.cli import run
from ui.commands.picture_sets import training_sets

SHORT = "--epochs 1 --batch-size 8 --image-size 32 --train-size 32".split()
MICRO = ["--backbone", "coatnet_micro"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """labelled/<colour>/<number>.png"""
    return write_coloured(tmp_path_factory.mktemp("labelled"), 6)


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


@pytest.mark.parametrize("source", ["folders", "table"])
def test_training_leaves_a_model_that_loads_and_resumes(source, request, tmp_path, capsys):
    data = str(request.getfixturevalue(source))
    arguments = ["train", "embedder", "--data", data, "--out", str(tmp_path / "model"), *MICRO, *SHORT, "--json"]
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
    assert (
        "expected other classes to validate on than to train on, got 1 in both, such as 'red'"
        in capsys.readouterr().err
    )


def train_briefly(data: Path, out: Path, *arguments: str) -> int:
    return run(["train", "embedder", "--data", str(data), "--out", str(out), *SHORT, *arguments, "--json"])


def test_training_on_pictures_alone(folders, tmp_path, capsys):
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in folders.rglob("*.png"):
        (flat / f"{path.parent.name}-{path.name}").write_bytes(path.read_bytes())
    assert train_briefly(flat, tmp_path / "model", "--no-labels", *MICRO) == 0
    validation = json.loads(capsys.readouterr().out)["validation"]
    assert validation["instance_recall@1"] > 34 and "recall@1" not in validation  # three pictures: chance is 33

    # Its weights are something to start from, with crops of another size.
    again = ["--init", str(tmp_path / "model"), "--unlabelled", str(flat), "--train-size", "64"]
    assert train_briefly(folders, tmp_path / "more", *again) == 0
    assert json.loads(capsys.readouterr().out)["validation"]["recall@1"] > 60  # two colours: chance is 45
    notes = json.loads((tmp_path / "more" / "config.json").read_text())["notes"]
    assert not notes["recipe"].keys() & {"backbone", "pooling", "attention", "drop_path"} and notes["recipe"]["loss"]
    assert notes["init"] == str(tmp_path / "model") and notes["unlabelled"] == ["flat"]


def test_heads_alone_with_plain_pictures(folders, tmp_path, capsys):
    flat = write_coloured(tmp_path / "flat", 2)
    data = ["train", "embedder", "--data", str(folders), *SHORT]
    assert run([*data, "--out", str(tmp_path / "model"), *MICRO]) == 0
    plain = ["--init", str(tmp_path / "model"), "--epochs", "0", "--unlabelled", str(flat), "--plain-unlabelled"]
    assert run([*data, "--out", str(tmp_path / "heads"), *plain]) == 0
    before, after = (Embedder.load(tmp_path / name, device="cpu").network for name in ("model", "heads"))
    assert before.config.projection_hidden == 0 and after.config.projection_hidden == 512
    for name, value in before.backbone.state_dict().items():
        assert torch.equal(after.backbone.state_dict()[name], value), name


def test_training_on_groups(folders, tmp_path, capsys):
    rows = [
        {"image": path.read_bytes(), "product": f"{path.parent.name} {int(path.stem) // 2}"}
        for path in sorted(folders.rglob("*.png"))
    ]
    rows.append({"image": b"no picture", "product": "broken"})
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pairs.parquet")
    assert train_briefly(tmp_path / "pairs.parquet", tmp_path / "model", "--group-column", "product", *MICRO) == 3
    captured = capsys.readouterr()
    assert json.loads(captured.out)["validation"]["recall@1"] > 34  # two pairs: chance is 33
    assert captured.err.count("skipped") == 1 and f"skipped {tmp_path / 'pairs.parquet'}#24: expected" in captured.err


def test_what_has_no_split_is_learned_from_alone(folders, tmp_path):
    rows = [
        {"image": (folders / name / f"{number}.png").read_bytes(), "label": name, "split": split}
        for name, split in (("red", "train"), ("green", None), ("blue", "val"), ("grey", "val"))
        for number in range(2)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "some.parquet")
    beside = tmp_path / "beside" / "violet"
    beside.mkdir(parents=True)
    (beside / "0.png").write_bytes(rows[0]["image"])
    sources = [str(tmp_path / "some.parquet"), str(beside.parent)]
    training, validation, num_skipped = training_sets(sources, image_size=32, label_column="label")
    assert training.classes == ["green", "red", "violet"] and validation.classes == ["blue", "grey"]
    assert (len(training), len(validation), num_skipped) == (5, 4, 0)


@pytest.mark.slow
def test_training_from_a_pretrained_backbone(folders, tmp_path, capsys):
    weights, name = tmp_path / "model.safetensors", "coatnet_nano_rw_224"
    torch.manual_seed(0)
    save_file(CoAtNet(replace(timm_weights.CONFIGS[name], num_classes=10)).state_dict(), weights)
    arguments = ["--backbone", f"timm:{name}", "--backbone-weights", str(weights), *SHORT]
    assert run(["train", "embedder", "--data", str(folders), "--out", str(tmp_path / "model"), *arguments]) == 0
    assert Embedder.load(tmp_path / "model", device="cpu").config.backbone.channels == (64, 128, 256, 512)


def test_a_place_where_no_folder_can_be_is_told_before_the_work(folders, capsys):
    file = folders / "red" / "0.png"
    assert run(["train", "embedder", "--data", str(folders), "--out", str(file / "model")]) == 2
    assert f"expected --out to be a folder to write to, got {file}" in capsys.readouterr().err


def test_a_model_of_another_run_stays(folders, tmp_path, capsys):
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    assert train_briefly(folders, model, *MICRO) == 2
    assert f"with the checkpoint of its training, got {model}, which holds a model alone" in capsys.readouterr().err
    # What a ranker leaves is no checkpoint to go on from, and no reason to stumble.
    torch.save({"attention": {}, "settings": {}}, model / "checkpoint.pt")
    assert train_briefly(folders, model, *MICRO) == 1
    assert "got one with other things to train; give the same" in capsys.readouterr().err
    assert (model / "config.json").read_text() == "{}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--init", "default", "--pooling", "mean"], "expected --init alone, which brings backbone, pooling"),
        (["--no-labels", "--group-column", "g"], "expected --no-labels, or columns of labels and groups, got both"),
        (
            ["--plain-unlabelled", "--unlabelled", "icons", "--no-labels"],
            "expected labels with --plain-unlabelled, got",
        ),
        (["--plain-unlabelled"], "expected --unlabelled pictures with --plain-unlabelled, got none; name them"),
        (["--epochs", "0"], "expected --init or --backbone-weights with --epochs 0, got neither"),
        (["--backbone", "timm:coatnet_nano_rw_224"], "expected weights for timm:coatnet_nano_rw_224, got none"),
    ],
)
def test_options_that_contradict_each_other(folders, tmp_path, capsys, arguments, message):
    command = ["train", "embedder", "--data", str(folders), "--out", str(tmp_path / "model")]
    assert run([*command, *arguments]) == 2
    assert message in capsys.readouterr().err
