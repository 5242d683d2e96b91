"""Pages of one ranking: put one after the other they hold every image once, re-ranked or not, ties and all."""

import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import ToyEmbedder, png, write_pngs
from toy_rankers import perturbed, weighing

from indexer import Index
from indexer.searching import ranking
from indexer.vectors.factory_bucket import FactoryBucket
from retrieval.errors import UsageError

NUM = 90


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> Index:
    """Ninety pictures in two segments, the last thirty of them copies of the thirty before."""
    folder = tmp_path_factory.mktemp("paging")
    photos = write_pngs(folder / "photos", range(60))
    index = Index.create(folder / "p.index", ToyEmbedder(), dtype="float32")
    index.add(photos, num_workers=0)
    for seed in range(30, 60):
        shutil.copy(photos / f"{seed:03d}.png", photos / f"{seed + 30:03d}.png")
        (photos / f"{seed + 30:03d}.png").write_bytes(png(seed) + b"\0")  # another file of the same pixels
    index.add(photos, num_workers=0)
    return index


def ids(hits) -> list[str]:
    return [hit.id for hit in hits]


def pages(index: Index, size: int, **options) -> list:
    found = []
    while page := index.search(png(1000), top_k=size, offset=len(found), **options):
        found += page
    return found


OPTIONS = [
    {"rerank": 0},
    {"rerank": 7, "ranker": perturbed()},
    {"rerank": 40, "ranker": weighing()},
    {"rerank": 20, "ranker": weighing(product=-1), "where": "width = 64 AND id > '02'"},
    {"rerank": 20, "ranker": perturbed(), "min_score": 0.0, "expand": 3},
    {"rerank": 0, "min_score": 0.01, "expand": 2},
]


@pytest.mark.parametrize("options", OPTIONS)
def test_pages_are_slices_of_one_ranking(index, options):
    whole = index.search(png(1000), top_k=1000, **options)
    assert len(whole) > 20 and len({*ids(whole)}) == len(whole)
    assert [hit.rank for hit in whole] == [*range(1, len(whole) + 1)]
    scores = [hit.score for hit in whole]
    assert scores == sorted(scores, reverse=True)
    for size in (1, 7, 64):
        assert pages(index, size, **options) == whole
    assert index.search(png(1000), offset=len(whole), **options) == []


@settings(max_examples=30, deadline=None)
@given(offset=st.integers(0, NUM + 5), top_k=st.integers(1, NUM + 5), options=st.sampled_from(OPTIONS))
def test_any_page_is_that_slice(index, offset, top_k, options):
    whole = index.search(png(1000), top_k=1000, **options)
    assert index.search(png(1000), top_k=top_k, offset=offset, **options) == whole[offset : offset + top_k]


def test_equal_scores_come_by_row_on_every_page(index):
    hits = pages(index, 4, rerank=0)
    row_of = {name: row for row, name in enumerate(index.catalog()["id"])}
    keys = [(-hit.score, row_of[hit.id]) for hit in hits]
    assert len(hits) == NUM and keys == sorted(keys) and len({hit.score for hit in hits}) == 60


def test_what_is_not_reranked_follows_by_similarity_and_below(index):
    options = {"top_k": NUM, "where": "id < '060'"}
    alike = index.search(png(1000), rerank=0, **options)
    hits = index.search(png(1000), rerank=10, ranker=weighing(product=-1), **options)
    assert ids(hits) == [*ids(alike)[9::-1], *ids(alike)[10:]]
    assert [hit.similarity_rank for hit in hits] == [*range(10, 0, -1), *range(11, 61)]
    least, tail = hits[9].score, np.array([hit.score for hit in hits[10:]])
    products = np.array([hit.score for hit in alike])
    np.testing.assert_allclose(tail, least + products[10:] - products[9], atol=1e-5)


def test_min_score_keeps_the_same_hits_on_every_page(index):
    alike = index.search(png(1000), top_k=NUM, rerank=0, where="id < '060'")
    options = {"rerank": 20, "ranker": weighing(product=-1), "min_score": alike[25].score, "where": "id < '060'"}
    kept = index.search(png(1000), top_k=NUM, **options)
    assert ids(kept) == [*ids(alike)[19::-1], *ids(alike)[20:26]]
    assert pages(index, 4, **options) == kept


def test_an_approximate_index_gives_every_image_once(index, tmp_path, monkeypatch):
    monkeypatch.setattr(FactoryBucket, "compares_all", lambda bucket, allowed: False)
    hnsw = Index.create(tmp_path / "p.index", ToyEmbedder(), widths=(512,), index_type="HNSW8")
    hnsw.add(index.path.parent / "photos", num_workers=0)
    monkeypatch.setattr(ranking, "_FIRST_DEPTH", 4)
    for options in ({"rerank": 0}, {"rerank": 20, "ranker": perturbed()}):
        found = pages(hnsw, 9, **options)
        assert sorted(ids(found)) == sorted(index.catalog()["id"])


@pytest.mark.parametrize("offset", [-1, 1.5, True, None, "2"])
def test_what_is_no_offset(index, offset):
    with pytest.raises(UsageError, match="expected offset as an integer of at least 0, got .*; 0 is the first page"):
        index.search(png(0), offset=offset)
