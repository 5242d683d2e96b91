"""Mistakes in what Python code gives to an index: each is a `UsageError` of one line, and changes nothing."""

from pathlib import Path

import numpy as np
import pytest
from toy import ToyEmbedder, png, write_pngs

from indexer import ImageId, Index
from retrieval import Embedder
from retrieval.errors import UsageError

NUM = 4


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> Index:
    home = tmp_path_factory.mktemp("arguments")
    index = Index.create(home / "p.index", ToyEmbedder(), dtype="float32")
    index.add(write_pngs(home / "photos", range(NUM)), num_workers=0)
    return index


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (lambda index: index.search(png(0), crop=(1, 2)), r"expected crop as x, y, .* pixels, got \(1, 2\)"),
        (lambda index: index.search(png(0), crop=(1.5, 2, 30, 30)), r"expected crop as .*, got \(1.5, 2, 30, 30\)"),
        (lambda index: index.search(png(0), crop="1,2,30,30"), "expected crop as .*, got '1,2,30,30'"),
        (lambda index: index.encode_pictures([png(0)], crop=(0, 0, 5, 0)), r"expected crop as .*, got \(0, 0, 5, 0\)"),
        (lambda index: index.explain(png(0), "000.png", crop=5), "expected crop as .*, got 5"),
        (lambda index: index.explain(png(0), 5), "expected an id, which is a str, got 5"),
        (lambda index: index.search(png(0), metadata=["a"]), r"expected metadata as columns .*, got \['a'\]"),
        (lambda index: index.search(png(0), weights="12"), "expected weights as finite numbers, .* got '12'"),
        (lambda index: index.search(png(0), weights=np.zeros(1)), "expected weights as finite numbers, .* got array"),
        (lambda index: index.search_many("abc.jpg"), "expected queries in a list, got one value of type str; put"),
        (lambda index: index.search_many(Path("abc.jpg")), "expected queries in a list, got one value of type .*Path"),
        (lambda index: index.encode_pictures(png(0)), "expected pictures in a list, got one value of type bytes"),
        (lambda index: index.check_search("abc.jpg"), "expected pictures in a list, got one value of type str"),
        (lambda index: index.add(), "expected sources or retry_failed, got neither"),
        (lambda index: index.add(["a", "b"]), "expected a path or URL as a source, got one of type list; give each"),
        (lambda index: index.add("a", exclude_dirs="b"), "expected exclude_dirs in a list, got one value of type str"),
        (lambda index: index.add("photos", num_workers="2"), "expected num_workers as an integer, got '2'"),
        (lambda index: index.search(ImageId(5)), "expected an id, which is a str, got 5"),
        (lambda index: index.add_tokens(token_bytes="5"), "expected token_bytes as an integer, got '5'"),
        (lambda index: index.add_tokens(batch_size=1.5), "expected batch_size as an integer, got 1.5"),
        (lambda index: index.reencode(5), "expected an embedder, or the name or folder of one, got 5"),
        (lambda index: index.reencode(num_workers="2"), "expected num_workers as an integer, got '2'"),
        (lambda index: index.remove([5]), "expected ids or paths, got 5"),
        (lambda index: index.remove(5), "expected ids or paths, got 5"),
        (lambda index: index.row(5), "expected an id, which is a str, got 5"),
        (lambda index: index.restore("0"), "expected snapshot as an integer, got '0'"),
        (lambda index: index.sample("2"), "expected num_images as an integer, got '2'"),
        (lambda index: index.embedding_map(-5), "expected num_images of at least 0, got -5"),
        (lambda index: Index.open(index.path, snapshot="0"), "expected snapshot as an integer, got '0'"),
        (lambda index: Index.open(index.path, 5), "expected an embedder, or the name or folder of one, got 5"),
        (lambda index: Index.create(index.path.with_name("n"), 5), "expected an embedder, or the name .*, got 5"),
    ],
)
def test_mistakes_are_told(index, mistake, message):
    version = index.version
    with pytest.raises(UsageError, match=message) as caught:
        mistake(index)
    assert "\n" not in str(caught.value) and index.version == version
    assert not index.path.with_name("n").exists()


def test_numbers_may_come_in_arrays(index):
    weighed = index.search([png(0), png(1)], weights=np.array([2, 1.0]))
    assert weighed == index.search([png(0), png(1)], weights=[2, 1])
    assert index.search(png(0), crop=np.array([0, 0, 32, 32])) == index.search(png(0), crop=[0, 0, 32, 32])


def test_a_model_may_be_named(index, tmp_path, monkeypatch):
    asked = []

    def load(*arguments, **_) -> ToyEmbedder:
        asked.append(arguments[0])
        return ToyEmbedder()

    monkeypatch.setattr(Embedder, "load", load)
    named = Index.create(tmp_path / "n.index", "default")
    named.add(index.path.with_name("photos"), num_workers=0)
    assert len(named.search(png(0))) == NUM
    assert Index.open(index.path, tmp_path / "model").embedder.fingerprint == ToyEmbedder().fingerprint
    assert asked == ["default", tmp_path / "model"]


def test_a_picture_is_removed_by_its_path_as_by_its_id(index, tmp_path):
    own = Index.create(tmp_path / "o.index", ToyEmbedder())
    photos = write_pngs(tmp_path / "photos", range(2))
    own.add(photos, num_workers=0)
    assert own.remove([photos / "000.png", "001.png"]) == 2
