"""Pictures under several names: which row stands for all of them, and what a hit and a condition make of that."""

import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy import ToyEmbedder, png, write_pngs

from indexer import Index
from indexer.names import Names, find, num_duplicates
from indexer.searching import ranking


def names_of(ids: list[str], sha256s: list[str], live: list[bool]) -> Names:
    return find(*(pa.chunked_array([values], pa.string()) for values in (ids, sha256s)), np.array(live, dtype=bool))


def test_by_hand():
    names = names_of(["c", "x", "a", "b", "0"], ["s", "t", "s", "s", "s"], [True, True, True, True, False])
    assert names.further.tolist() == [0, 3]
    assert names.firsts(np.array([[0, 1], [3, 2]])).tolist() == [[2, 1], [2, 2]]
    assert names.others(2) == ("b", "c") and names.others(0) == ("a", "b") and names.others(1) == ()
    assert names.shown(np.array([1, 2]), None).tolist() == [1, 2]
    assert names.shown(np.array([2, 1]), np.array([0, 1, 3])).tolist() == [3, 1]


def test_without_duplicates_nothing_is_mapped():
    names = names_of(["a", "b"], ["s", "s"], [True, False])
    assert names.further.tolist() == [] and names.others(0) == ()
    numbers = np.array([0, 1])
    assert names.firsts(numbers) is numbers and names.shown(numbers, numbers) is numbers


@given(st.lists(st.tuples(st.sampled_from("stuv"), st.booleans()), max_size=12), st.randoms())
def test_the_rows_a_search_looks_at_are_one_a_picture_whatever_their_order(rows, random):
    ids = [f"{number:02d}" for number in range(len(rows))]
    random.shuffle(ids)
    names = names_of(ids, [sha256 for sha256, _ in rows], [live for _, live in rows])
    live = [number for number, (_, is_live) in enumerate(rows) if is_live]
    looked_at = [number for number in live if number not in names.further]
    by_hand = {
        sha256: min(ids[number] for number in live if rows[number][0] == sha256) for sha256, is_live in rows if is_live
    }
    assert {rows[number][0]: ids[number] for number in looked_at} == by_hand and len(looked_at) == len(by_hand)
    assert len(names.further) == num_duplicates(rows[number][0] for number in live)
    matching = [number for number in live if random.random() < 0.5]
    shown = {
        number: min((other for other in matching if rows[other][0] == rows[number][0]), key=ids.__getitem__)
        for number in looked_at
        if any(rows[other][0] == rows[number][0] for other in matching)
    }
    found = names.shown(np.array([*shown], dtype=np.int64), np.array(matching, dtype=np.int64))
    assert found.tolist() == [*shown.values()]
    for number in live:
        own = {ids[other] for other in live if rows[other][0] == rows[number][0]} - {ids[number]}
        assert names.others(number) == tuple(sorted(own))
        assert rows[names.firsts(np.array([number]))[0]][0] == rows[number][0]


@pytest.fixture
def index(tmp_path) -> Index:
    photos = write_pngs(tmp_path / "photos", range(6))
    shutil.copy(photos / "002.png", photos / "copy of 002.png")
    shutil.copy(photos / "002.png", photos / "000 first.png")
    index = Index.create(tmp_path / "p.index", ToyEmbedder(), dtype="float32")
    index.add(photos, num_workers=0)
    return index


def test_exact_duplicates_are_one_hit_that_tells_all_names(index):
    hits = index.search(png(2), top_k=100)
    assert sorted(hit.id for hit in hits) == ["000 first.png", "000.png", "001.png", "003.png", "004.png", "005.png"]
    assert (hits[0].id, hits[0].names) == ("000 first.png", ("002.png", "copy of 002.png"))
    assert all(hit.names == () for hit in hits[1:])
    assert index.info()["images"] == 8 and index.info()["duplicates"] == 2 and index.verify() == []


def test_removed_names_are_told_no_more_and_the_next_one_takes_over(index):
    index.remove(["000 first.png"])
    hit = index.search(png(2), top_k=1)[0]
    assert (hit.id, hit.names) == ("002.png", ("copy of 002.png",)) and index.info()["duplicates"] == 1
    index.remove(["002.png"])
    hit = index.search(png(2), top_k=1)[0]
    assert (hit.id, hit.names) == ("copy of 002.png", ()) and index.info()["duplicates"] == 0
    assert index.verify() == []


def test_a_condition_finds_a_picture_by_any_of_its_names(tmp_path):
    path = tmp_path / "shop.parquet"
    labels = {"a": "cat", "b": "dog", "c": "dog", "d": "dog"}
    table = {"id": [*labels], "label": [*labels.values()], "image": [png(1), png(1), png(1), png(2)]}
    pq.write_table(pa.table(table), path)
    index = Index.create(tmp_path / "p.index", ToyEmbedder())
    index.add(path, num_workers=0)
    found = {}
    for condition in (None, "label = 'cat'", "label = 'dog'", "id = 'c'"):
        found[condition] = [(hit.id, hit.label, hit.names) for hit in index.search(png(1), where=condition)]
    assert found[None] == [("a", "cat", ("b", "c")), ("d", "dog", ())]
    assert found["label = 'cat'"] == [("a", "cat", ("b", "c"))]
    assert found["label = 'dog'"] == [("b", "dog", ("a", "c")), ("d", "dog", ())]
    assert found["id = 'c'"] == [("c", "dog", ("a", "b"))]


def test_pictures_are_grouped_by_the_name_that_a_condition_lets_through(tmp_path, monkeypatch):
    monkeypatch.setattr(ranking, "_FIRST_DEPTH", 4)
    path = tmp_path / "shop.parquet"
    rows = [
        (f"{shelf}{number}", png(number), shelf if shelf == "a" else f"b{number}")
        for shelf in "ab"
        for number in range(9)
    ]
    ids, images, shelves = zip(*rows, strict=True)
    pq.write_table(pa.table({"id": ids, "image": images, "shelf": shelves}), path)
    index = Index.create(tmp_path / "p.index", ToyEmbedder())
    index.add(path, num_workers=0)
    assert index.info()["duplicates"] == 9 and len(index.search(png(0), group_by="shelf")) == 1
    # Of each picture the name a… comes first, all on one shelf; those that the condition lets through have their own.
    hits = index.search(png(0), where="starts_with(id, 'b')", group_by="shelf")
    assert sorted(hit.id for hit in hits) == [f"b{number}" for number in range(9)]


def test_judgments_of_any_name_count_for_the_picture(index):
    from indexer.searching.judged import judgments_of

    index.record_feedback("000.png", "copy of 002.png", True)
    gallery = index._open_gallery()
    judgments = judgments_of(index.feedback(), gallery, index.embedder, {})
    assert judgments.rows.tolist() == [gallery.find(["000 first.png"])["000 first.png"]]
    assert gallery.vectors(judgments.rows.numpy()).tolist() == judgments.vectors.tolist()
