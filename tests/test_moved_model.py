"""A model in a folder that was moved since an index was made with it: named anew, for once or for good."""

import shutil
from pathlib import Path

import pytest
from toy import ToyEmbedder, write_pngs

from indexer import Index
from retrieval import Embedder
from retrieval.errors import MismatchError, WeightsError
from retrieval.shipped import shipped
from ui.page.training import TrainingOptions


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with `p.index`, whose model, with a ranker in it, lay in `old` and lies in `new` now."""
    home = tmp_path_factory.mktemp("moved")
    shutil.copytree(shipped("weights/default"), home / "old")
    index = Index.create(home / "p.index", Embedder.load(home / "old", device="cpu"))
    index.add(write_pngs(home / "photos", range(4)), num_workers=0)
    (home / "old").rename(home / "new")
    return home


@pytest.fixture
def home(built, tmp_path) -> Path:
    return shutil.copytree(built, tmp_path / "home")


def asked(home: Path) -> tuple:
    return "search", home / "photos" / "002.png", "--index", home / "p.index", "--device", "cpu", "--json"


def test_the_error_says_how_to_name_it(spyglass, built, home):
    answer = spyglass(*asked(home))
    assert answer.code == 1 and answer.out == ""
    assert answer.err == (
        f"error: expected the model of {home}/p.index at {built}/old, where it was, found no folder there; say where "
        f"it lies now with --model DIR, or once and for all with: spyglass reencode --index {home}/p.index --model "
        "DIR\n"
    )
    with pytest.raises(WeightsError, match="with --model DIR"):
        Index.open(home / "p.index").reencode()
    said = spyglass("info", "--index", home / "p.index").out
    assert f"{built}/old (gone: say where it lies with --model DIR)" in said


def test_named_anew_it_is_accepted_with_its_ranker(spyglass, home):
    answer = spyglass(*asked(home), "--model", home / "new")
    assert answer.code == 0 and answer.ids[0] == "002.png"
    assert answer.json["hits"][0]["similarity_rank"] == 1
    index = Index.open(home / "p.index", Embedder.load(home / "new", device="cpu"))
    assert index.info()["rankers"] == [str(home / "new" / "ranker")]
    assert spyglass("tokens", "--index", home / "p.index", "--model", home / "new").code == 0
    assert spyglass("index", home / "photos", "--index", home / "p.index", "--model", home / "new").code == 0


def test_named_anew_for_good(spyglass, home):
    answer = spyglass("reencode", "--index", home / "p.index", "--model", home / "new", "--json")
    assert answer.code == 0 and (answer.json["encoded"], answer.json["unchanged"]) == (0, 4)
    index = Index.open(home / "p.index")
    assert index.info()["model"] == str(home / "new") and index.verify() == []
    assert spyglass(*asked(home)).ids[0] == "002.png"
    version = index.version
    assert spyglass("reencode", "--index", home / "p.index").code == 0
    assert index.newer() is None and Index.open(home / "p.index").version == version  # nothing new to write down


@pytest.mark.parametrize("command", ["search", "tokens", "ui", "serve"])
def test_another_model_is_refused(spyglass, home, command, monkeypatch):
    monkeypatch.setattr(Embedder, "load", lambda *_, **__: ToyEmbedder())
    query = [home / "photos" / "002.png"] if command == "search" else []
    answer = spyglass(command, *query, "--index", home / "p.index", "--model", home / "new")
    assert answer.code == 4 and answer.err.startswith(f"error: expected the model that {home}/p.index was built with, ")
    assert "got toy (f00df00df00d); use that one, or re-encode" in answer.err
    with pytest.raises(MismatchError):
        Index.open(home / "p.index", ToyEmbedder())


def test_no_model_at_all_is_refused(spyglass, home):
    answer = spyglass(*asked(home), "--model", home / "photos")
    assert answer.code == 1 and f"expected config.json and model.safetensors in {home}/photos" in answer.err


def test_a_training_process_is_told_where_it_lies(tmp_path):
    options = TrainingOptions(name="mine")
    told = options.arguments(tmp_path / "p.index", tmp_path / "run", "cpu", "/models/new")
    assert told[told.index("--model") + 1] == "/models/new"
    assert "--model" not in options.arguments(tmp_path / "p.index", tmp_path / "run", "cpu")
