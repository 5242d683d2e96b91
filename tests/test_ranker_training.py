"""`train ranker`, from the command line: from labels, from judgments, end to end, and what it refuses."""

import json
import shutil
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from test_train_jointly import tiny
from toy import COLOURS, coloured, write_coloured

from indexer import Index, judged_lists
from indexer.judged_lists import judged_examples
from retrieval import Embedder
from retrieval.ranker_weights import Ranker
from retrieval.reranking.metadata import MetadataColumns
from retrieval.training.checkpoints import digest_of_weights
from ui.commands.ranker_report import RankerReport
from ui.pictures.learning_curve import draw_learning_curve, kept_row

SHORT = "--epochs 2 --batch-size 8 --candidates 8 --token-bytes 16 --device cpu".split()
NUM_EACH = 6
LINEAR = {
    "parts": ["weigh"],
    "loss": "smooth_ap",
    "learning_rate": 0.3,
    "queries_per_epoch": 640,
    "keep_end": True,
}


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def model(home) -> str:
    """A tiny embedder with tokens, untrained."""
    Embedder(tiny(widths=(32, 64), min_dim=8, max_dim=64), device="cpu").save(home / "model")
    return str(home / "model")


@pytest.fixture(scope="module")
def folders(home) -> Path:
    """labelled/<colour>/<number>.png"""
    return write_coloured(home / "labelled", NUM_EACH)


@pytest.fixture(scope="module")
def table(folders) -> Path:
    """Two colours to train on, two to validate on; `size` says which, and `brand` of one in two."""
    rows = [
        {
            "image": (folders / name / f"{number}.png").read_bytes(),
            "label": name,
            "split": "train" if name in ("red", "green") else "val",
            "size": 10.0 * place + number,
            "brand": name[:2] if number % 2 else None,
        }
        for place, name in enumerate(COLOURS)
        for number in range(NUM_EACH)
    ]
    path = folders.parent / "colours.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.fixture
def spyglass(spyglass):
    """Runs one command line `train ranker …` in this process."""
    return partial(spyglass, "train", "ranker")


def test_from_labels_to_a_ranker_that_loads_and_resumes(spyglass, table, model, tmp_path):
    out = tmp_path / "ranker"
    arguments = ["--data", table, "--out", out, "--model", model, *SHORT]
    code, text, err = spyglass(*arguments)
    assert code == 0, err
    assert [line.split()[0] for line in err.splitlines()] == ["epoch", "0", "1", "2"]
    assert text.splitlines()[1].startswith("similarity alone") and f"ranker saved in {out}" in text
    assert "trained on 12 queries, validated on 12" in text
    ranker = Ranker.load(out)
    assert ranker.embedder == Embedder.load(model, device="cpu").fingerprint
    with Image.open(out / "learning-curve.png") as curve:
        assert curve.width > 1000
    assert (out / "checkpoint.pt").exists()
    notes = json.loads((out / "config.json").read_text())["notes"]
    assert notes["data"] == ["colours.parquet"] and notes["recipe"]["loss"] == "pairwise"
    assert notes["init"] is notes["init_weights"] is None

    code, text, err = spyglass(*arguments, "--json")
    report = json.loads(text)
    assert code == 0 and err.splitlines() == [err.splitlines()[0]], "a finished run, asked for again, only reports"
    assert report["validation"]["after"] == notes["validation"]["after"]
    assert report["validation"]["before"] == pytest.approx(report["validation"]["similarity"], abs=1e-3)
    assert report["validation"]["after"]["map_at_100"] >= report["validation"]["before"]["map_at_100"]
    code, _, err = spyglass(*arguments, "--seed", "3")
    assert code == 1 and "expected a checkpoint of this run in" in err and "with other seed" in err


def test_metadata_is_declared_by_the_rows_of_training(spyglass, table, folders, model, tmp_path):
    columns = ["--number", "size", "--category", "brand"]
    code, _, err = spyglass("--data", table, "--out", tmp_path / "r", "--model", model, *SHORT, *columns)
    assert code == 0, err
    metadata = Ranker.load(tmp_path / "r").config.metadata
    assert metadata.numbers[0].mean == pytest.approx(np.mean([10 * place + n for place in (0, 1) for n in range(6)]))
    assert metadata.categories[0].values == ("gr", "re")
    # It brings its columns along, for sources that have none as well.
    again = ["--data", folders, "--init", tmp_path / "r", "--out", tmp_path / "again", "--model", model, *SHORT]
    assert spyglass(*again)[0] == 0
    assert Ranker.load(tmp_path / "again").config.metadata == metadata
    assert origin_of(tmp_path / "again") == (
        str(tmp_path / "r"),
        digest_of_weights(Ranker.load(tmp_path / "r").attention),
    )
    code, _, err = spyglass("--data", folders, "--out", tmp_path / "no", "--model", model, *SHORT, "--number", "size")
    assert code == 2 and "expected numbers in the column 'size', got none" in err


def origin_of(ranker: Path) -> tuple[str | None, str | None]:
    """What its notes say that it was started from."""
    notes = json.loads((ranker / "config.json").read_text())["notes"]
    return notes["init"], notes["init_weights"]


def recipe_of(ranker: Path, settings: Iterable[str]) -> dict:
    """Some settings of the training it had."""
    recipe = json.loads((ranker / "config.json").read_text())["notes"]["recipe"]
    return {name: recipe[name] for name in settings}


def test_other_sources_to_validate_on(spyglass, folders, model, tmp_path):
    broken = folders.parent / "more"
    (broken / "violet").mkdir(parents=True)
    (broken / "orange").mkdir()
    for number in range(3):
        coloured((140, 60, 190), number).save(broken / "violet" / f"{number}.png")
        coloured((240, 150, 40), number).save(broken / "orange" / f"{number}.png")
    (broken / "orange" / "9.png").write_bytes(b"no picture")
    arguments = ["--data", folders, "--validation-data", broken, "--model", model, *SHORT, "--loss", "listwise"]
    code, text, err = spyglass(*arguments, "--out", tmp_path / "r", "--json")
    assert code == 3 and f"skipped {broken / 'orange' / '9.png'}" in err
    report = json.loads(text)
    assert report["queries"] == {"training": 24, "validation": 6} and report["skipped"] == 1
    code, _, err = spyglass("--data", folders, "--validation-data", folders, "--model", model, "--out", tmp_path / "n")
    assert code == 2 and "expected other classes to validate on than to train on, got 4 in both, such as 'blue'" in err


def test_embedder_and_ranker_end_to_end(spyglass, table, model, tmp_path):
    out = tmp_path / "joint"
    arguments = ["--data", table, "--out", out, "--model", model, *SHORT, "--joint"]
    code, text, err = spyglass(*arguments, "--steps", "2", "--epochs", "1", "--json")
    assert code == 0, err
    trained, ranker = Embedder.load(out, device="cpu"), Ranker.load(out / "ranker")
    assert ranker.embedder == trained.fingerprint == json.loads(text)["embedder"]
    assert (out / "learning-curve.png").exists() and (out / "ranker" / "learning-curve.png").exists()
    assert err.splitlines().count(err.splitlines()[0]) == 2  # a table for each stage
    code, again, err = spyglass(*arguments, "--steps", "2", "--epochs", "1", "--json")
    assert code == 0 and json.loads(again) == json.loads(text)
    # As it comes out of joint training, without more.
    code, text, _ = spyglass(*arguments, "--steps", "2", "--epochs", "0", "--json")
    assert code == 0 and json.loads(text)["epochs"] == 0


def rows_of_ann() -> list[dict]:
    """Pictures of one number belong together, whatever their colour."""
    return [
        {"query": f"{colour}/{n}.png", "image": f"{other}/{m}.png", "relevant": m == n, "user": "ann"}
        for colour in ("red", "green")
        for n in range(NUM_EACH)
        for other in ("blue", "grey")
        for m in (n, (n + 1) % NUM_EACH)
    ]


@pytest.fixture(scope="module")
def judged(folders, model, home) -> Path:
    """An index with what ann says."""
    index = Index.create(home / "my.index", Embedder.load(model, device="cpu"), widths=(32, 64), token_bytes=16)
    index.add(folders, num_workers=0)
    index.record_feedback_rows(rows_of_ann())
    index.record_feedback("red/0.png", "red/1.png", True, user="bob")
    picture = coloured(COLOURS["blue"], 3)
    for image, relevant in (("blue/0.png", True), ("red/0.png", False)):
        index.record_feedback(picture, image, relevant, user="cy")
    return index.path


def test_judged_lists(judged, folders, tmp_path, monkeypatch):
    monkeypatch.setattr(judged_lists, "SAME_PICTURE", 1.1)  # to an untrained model all pictures look the same
    index = Index.open(shutil.copytree(judged, tmp_path / "copy.index"), device="cpu")
    examples, failures = judged_examples(index, num_candidates=5)
    assert not failures and len(examples) == 13  # twelve of ann's, none of bob's, whose word is one-sided, one of cy's
    assert examples.candidates.shape == (13, 5)
    assert examples.counts.sum(1).tolist() == [4] * 12 + [2] and examples.num_relevant.tolist() == [2] * 12 + [1]
    assert torch.equal(examples.num_relevant, (examples.relevant & examples.counts).sum(1))
    # An image that ann accepted twice and rejected twice, once for this very query, of which it hears nothing.
    relevant, counts = examples.relevant[:12], examples.counts[:12]
    times = examples.feedback[:12, :, :2].expm1().round()
    assert times[relevant].tolist() == [[1, 2]] * 24 and times[counts & ~relevant].tolist() == [[2, 1]] * 24
    # Cy has judged nothing else, and does not hear what ann says.
    assert not examples.feedback[12].any()
    # The same picture under another name is what the query itself is: nothing that was said of it is heard.
    index.record_feedback_rows(
        [
            {"query": folders / "red" / "2.png", "image": f"blue/{number}.png", "relevant": number == 2, "user": "di"}
            for number in (2, 3)
        ]
    )
    monkeypatch.undo()
    copied = tmp_path / "copied.png"
    copied.write_bytes((folders / "red" / "2.png").read_bytes())
    for image, relevant in (("blue/2.png", True), ("blue/4.png", False)):
        index.record_feedback(str(copied), image, relevant, user="di")
    twins, _ = judged_examples(index, user="di", num_candidates=5)
    assert len(twins) == 2 and not twins.feedback.any()
    alone, _ = judged_examples(index, user="cy", num_candidates=30, metadata=MetadataColumns())
    assert alone.candidates.shape == (1, 23) and alone.counts.sum() == 2
    assert len(alone.queries.dims) == 1 and alone.queries.vectors.norm().item() == pytest.approx(1, abs=1e-5)
    assert judged_examples(index, user="bob") == (None, [])


def test_a_ranker_of_ones_own_is_kept_in_the_index(spyglass, judged, folders, model, tmp_path):
    arguments = ["--feedback", judged, "--user", "ann", "--name", "ann", *SHORT]
    for _ in range(2):  # a second run begins anew
        code, text, err = spyglass(*arguments, "--json")
        assert code == 0 and [line.split()[0] for line in err.splitlines()] == ["epoch", "0", "1", "2"], err
    report = json.loads(text)
    assert report["queries"] == {"training": 9, "validation": 3}
    place = judged / "rankers" / "ann"
    assert report["ranker"] == str(place)
    assert sorted(path.name for path in place.iterdir()) == ["config.json", "learning-curve.png", "model.safetensors"]
    assert Ranker.load(place).embedder == Embedder.load(model, device="cpu").fingerprint
    # Judgments beside labels, from that ranker on.
    both = ["--feedback", judged, "--data", folders, "--init", "ann", "--out", tmp_path / "both", *SHORT]
    code, text, err = spyglass(*both, "--json")
    assert code == 0, err
    assert origin_of(tmp_path / "both")[0] == "ann"
    assert json.loads(text)["queries"]["training"] == 12 + 10  # two of four colours; four of five judged queries
    assert Index.open(judged).verify() == [] and Index.open(judged).info()["rankers"] == ["ann"]
    # From a fresh ranker everything learns; from one that was trained, what it weighs, unless asked for otherwise.
    whole = {"parts": [], "loss": "pairwise", "learning_rate": 0.003, "queries_per_epoch": None, "keep_end": False}
    assert recipe_of(place, whole) == whole
    assert recipe_of(tmp_path / "both", whole) == LINEAR
    before, after = (Ranker.load(folder).attention.state_dict() for folder in (place, tmp_path / "both"))
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved == ({"weigh.weight"} if json.loads(text)["kept_epoch"] else set())
    asked = ["--feedback", judged, "--init", "ann", "--out", tmp_path / "all", *SHORT]
    assert spyglass(*asked, "--parts", "all", "--loss", "margin", "--learning-rate", "0.01")[0] == 0
    assert recipe_of(tmp_path / "all", whole) == whole | {"loss": "margin", "learning_rate": 0.01}


def test_judgments_tune_what_the_models_own_ranker_weighs(spyglass, folders, model, tmp_path):
    own = shutil.copytree(model, tmp_path / "own")
    assert spyglass("--data", folders, "--model", own, "--out", own / "ranker", *SHORT)[0] == 0
    index = Index.create(tmp_path / "own.index", Embedder.load(own, device="cpu"), widths=(32, 64), token_bytes=16)
    index.add(folders, num_workers=0)
    index.record_feedback_rows(rows_of_ann())
    code, text, err = spyglass("--feedback", index.path, "--name", "ann", *SHORT, "--json")
    assert code == 0, err
    place = index.path / "rankers" / "ann"
    assert recipe_of(place, LINEAR) == LINEAR
    before, after = (Ranker.load(folder).attention.state_dict() for folder in (own / "ranker", place))
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved == {"weigh.weight"} and json.loads(text)["kept_epoch"] == 2


def test_another_model_than_the_indexs(spyglass, judged, tmp_path):
    Embedder(tiny(5, widths=(32, 64), min_dim=8, max_dim=64), device="cpu").save(tmp_path / "other")
    arguments = ["--feedback", judged, "--model", tmp_path / "other", "--out", tmp_path / "r", *SHORT]
    code, _, err = spyglass(*arguments)
    assert code == 4 and "expected the model that" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--out r", "expected --data to learn from, or --feedback, got neither"),
        ("--data {data}", "expected --out DIR, or --name NAME of a ranker in the --feedback index"),
        ("--data {data} --out {model}", "checkpoint of its training, got {model}, which holds a model alone"),
        ("--data {data} --out r --user ann", "expected --feedback beside --user and --name, got none"),
        ("--data {data} --out r --steps 5", "expected --joint beside --steps and --epochs 0, got a frozen embedder"),
        ("--feedback {index} --joint --out r", "expected --joint with --data alone"),
        ("--data {data} --joint --parts all --out r", "expected --joint, which trains all there is, without --parts"),
        ("--feedback {index} --name ../ann", "expected a --name of letters, digits"),
        (
            "--feedback {index} --name default",
            "expected a --name of your own, got 'default', which is the ranker beside",
        ),
        ("--data {data} --init default --number size --out r", "expected --init alone, which brings the columns"),
        ("--feedback {index} --number size --out r", "expected --data beside --number, --category and --validation"),
        ("--data {data} --out {index}/manifest.json", "expected --out to be a folder to write to"),
        ("--data {data} --out r --model {model} --token-bytes 0", "expected --token-bytes from 8 (one token) to 4096"),
        ("--data {data} --out r --loss pointwise", "expected a loss among pairwise, listwise, margin, smooth_ap"),
        ("--feedback {index} --user bob --out r", "with an image judged relevant by bob and one judged not, got none"),
        ("--feedback {index} --user cy --out r", "relevant and not, of at least 2 queries, got 1"),
    ],
)
def test_wrong_usage(spyglass, judged, table, model, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = spyglass(*options.format(data=table, index=judged, model=model).split())
    assert (code, out) == (2, "") and err.startswith("error: ") and err.count("\n") == 1
    assert message.format(model=model) in err


def test_a_learning_curve():
    rows = [{"epoch": 0, "val_loss": 0.7, "val_map_at_100": 30.0, "val_recall_at_1": 50.0}]
    rows += [
        {"epoch": e, "loss": 0.6 - e / 50, "val_loss": 0.65, "val_map_at_100": 30 + e % 3, "val_recall_at_1": 50.0}
        for e in range(1, 6)
    ]
    assert kept_row(rows)["epoch"] == 2 and kept_row([{"epoch": 0}]) is None
    assert kept_row([*rows[:-1], rows[-1] | {"kept_epoch": 1}])["epoch"] == 1
    picture = draw_learning_curve(rows, title="A run", similarity={"map_at_100": 29.0, "recall_at_1": 51.0})
    assert picture.mode == "RGB" and len(picture.getcolors(1 << 24)) > 100
    assert draw_learning_curve(rows[:1], title="Begun").size == picture.size


@pytest.mark.parametrize(
    ("kept_epoch", "said"),
    [(2, "kept epoch 2 of 5"), (0, "5 epochs found nothing better than before training: kept as it was")],
)
def test_the_report_says_what_was_kept(kept_epoch, said):
    row = {"map_at_100": 50.0, "recall_at_1": 40.0}
    report = RankerReport(
        ranker=Path("r"),
        embedder="f00d",
        kept_epoch=kept_epoch,
        num_epochs=5,
        num_queries=(8, 2),
        similarity=row,
        before=row,
        after=row,
        num_skipped=0,
    )
    assert f"trained on 8 queries, validated on 2; {said}\n" in report.text()
