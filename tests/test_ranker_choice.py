"""The ranker in use: chosen once, used by every search that names none, and never in the way."""

import shutil

import pytest
from toy import ToyEmbedder, write_coloured
from toy_rankers import weighing

from indexer import Index
from indexer.judgments.rankers import Rankers
from indexer.storage import manifest
from retrieval.errors import UsageError


@pytest.fixture
def index(tmp_path):
    index = Index.create(tmp_path / "index", ToyEmbedder())
    index.add(write_coloured(tmp_path / "pictures", 3), num_workers=0)
    weighing(cosine=1.0).save(index.path / "rankers" / "likes")
    weighing(cosine=-1.0).save(index.path / "rankers" / "dislikes")
    return index


def test_it_is_used_where_none_is_named(index):
    query = next(iter(index.catalog()["uri"]))
    assert index.ranker_in_use() is None and index.search(query)[1].similarity_rank is None
    other = Index.open(index.path, ToyEmbedder())
    other.search(query)
    for name in ("likes", "dislikes"):
        index.use_ranker(name)
        assert other.ranker_in_use() == name  # for those who have it open as well
        assert other.search(query) == index.search(query, ranker=name) != index.search(query, rerank=0)
    index.use_ranker(None)
    assert other.search(query)[1].similarity_rank is None


def test_a_folder_in_the_working_directory_changes_no_name(index, tmp_path, monkeypatch):
    (tmp_path / "likes").mkdir()
    monkeypatch.chdir(tmp_path)
    assert Rankers(index.path, manifest.read(index.path).model).find("likes").name == "likes"


def test_one_that_is_not_there(index):
    with pytest.raises(UsageError, match=r"expected a ranker of .* \(dislikes, likes\), got 'loves'"):
        index.use_ranker("loves")


@pytest.mark.parametrize("said", [b"{", b"[]", b'{"ranker": 3}', b'{"ranker": "gone"}'])
def test_a_choice_that_says_nothing_sound_stops_nothing(index, said):
    query = next(iter(index.catalog()["uri"]))
    (index.path / "rankers" / "in-use.json").write_bytes(said)
    assert index.search(query)[1].similarity_rank is None
    assert index.verify() == []


def test_one_for_another_model_is_passed_over_and_said_once(index, caplog):
    query = next(iter(index.catalog()["uri"]))
    index.use_ranker("likes")
    weighing(cosine=1.0, embedder="beef" * 16).save(index.path / "rankers" / "likes")
    for _ in range(2):
        assert index.search(query)[1].similarity_rank is None
    assert [record.getMessage() for record in caplog.records] == [
        "the ranker in use, 'likes', was trained for another model: similarity alone orders the hits"
    ]
    info = index.info()
    assert (info["rankers"], info["foreign_rankers"]) == (["dislikes"], ["likes"])
    with pytest.raises(UsageError, match=r"expected a ranker of .* \(dislikes\), got 'likes'"):
        index.use_ranker("likes")


def test_one_that_is_gone_is_said(index, caplog):
    index.use_ranker("likes")
    shutil.rmtree(index.path / "rankers" / "likes")
    assert index.search(next(iter(index.catalog()["uri"])))[1].similarity_rank is None
    assert "the ranker in use, 'likes', is not there any more" in caplog.text
