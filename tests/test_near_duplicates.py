"""Near duplicates over a whole index: the groups are those of a plain comparison of all pairs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from toy import ToyEmbedder, pixels_of, png, write_pngs
from tqdm import tqdm

from indexer import Index
from indexer.buckets import BucketedIndex
from indexer.searching import alike
from indexer.searching.components import Components
from indexer.searching.gallery import Gallery
from retrieval.errors import UsageError

NUM = 40


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> Index:
    """Forty pictures; five of them paler, and paler still, and two of those larger; and one file twice."""
    folder = tmp_path_factory.mktemp("near")
    photos = write_pngs(folder / "photos", range(NUM))
    for seed in range(5):
        for number, share in enumerate((0.97, 0.94)):
            blend = Image.blend(Image.fromarray(pixels_of(seed)), Image.fromarray(pixels_of(seed + 900)), 1 - share)
            blend.resize((64 + seed, 64) if number else (64, 64)).save(photos / f"{seed:03d}-{number}.png")
    (photos / "copy of 039.png").write_bytes(png(39))
    index = Index.create(folder / "p.index", ToyEmbedder(), dtype="float32")
    index.add(photos, num_workers=0, batch_size=16, commit_seconds=0, label_from="parent")
    index.remove(["020.png"])
    return index


def plain_groups(index: Index, rows: np.ndarray, threshold: float) -> set[frozenset[str]]:
    """Every pair compared, and links followed until nothing more comes in."""
    catalog, gallery = index._open_gallery().catalog, index._open_gallery()
    ids = catalog.values("id", rows).to_pylist()
    vectors = gallery.vectors(rows)
    alike = vectors @ vectors.T >= threshold
    groups = set()
    for start in range(len(rows)):
        found = {start}
        while (more := {int(b) for a in found for b in np.flatnonzero(alike[a])} | found) != found:
            found = more
        if len(found) > 1:
            groups.add(frozenset(ids[place] for place in found))
    return groups


@pytest.mark.parametrize("block", [3, 2048])
@pytest.mark.parametrize("threshold", [0.999, 0.99, 0.9, 0.5, 0.2])
def test_groups_are_those_of_all_pairs(index, threshold, block, monkeypatch):
    monkeypatch.setattr(alike, "_BLOCK", block)
    groups = index.near_duplicates(threshold)
    assert [len(group) for group in groups] == sorted(map(len, groups), reverse=True)
    rows = np.flatnonzero(index._open_gallery().catalog.live)
    assert {frozenset(one.id for one in group) for group in groups} == plain_groups(index, rows, threshold)


@pytest.mark.parametrize("block", [3, 2048])
@pytest.mark.parametrize("threshold", [0.99, 0.9])
def test_the_quick_way_finds_the_same_groups(index, threshold, block, monkeypatch):
    exact = index.near_duplicates(threshold)
    monkeypatch.setattr(alike, "_BLOCK", block)
    monkeypatch.setattr(alike, "MANY", 10)
    for option in ({}, {"exact": True}):
        groups = index.near_duplicates(threshold, **option)
        assert [[one.id for one in group] for group in groups] == [[one.id for one in group] for group in exact] != []
        told = [[one.similarity for group in some for one in group] for some in (groups, exact)]
        assert told[0] == pytest.approx(told[1], abs=1e-5)


def test_the_quick_way_misses_next_to_nothing_of_many():
    """Groups of pictures that are alike to all degrees, in one space with as many that are alone."""
    rng = np.random.default_rng(0)
    scale = 1 / np.sqrt(np.arange(1, 129))
    centres, alone = (rng.normal(size=(num, 128)) * scale for num in (700, 3000))
    noise = rng.normal(size=(2100, 128)) * scale * rng.uniform(0.05, 0.6, (2100, 1))
    vectors = np.concatenate([np.repeat(centres, 3, axis=0) + noise, alone]).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    buckets = BucketedIndex((128,), device="cpu")
    buckets.add(np.arange(len(vectors)), vectors, np.full(len(vectors), 128))
    expected = np.argwhere(np.triu(vectors @ vectors.T >= 0.85, 1))
    found = {is_exact: found_pairs(Gallery(None, buckets, None), len(vectors), 0.85, is_exact) for is_exact in (0, 1)}
    assert found[1] == {*map(tuple, expected.tolist())} and len(expected) > 1000
    assert found[0] <= found[1] and len(found[0]) >= 0.99 * len(found[1])


def found_pairs(gallery: Gallery, num: int, threshold: float, is_exact: bool) -> set[tuple[int, int]]:
    options = {"is_exact": is_exact, "progress_bar": tqdm(disable=True)}
    places = [some[:2] for some in alike.pairs(gallery, np.arange(num), threshold, **options)]
    return {tuple(sorted(pair)) for some in places for pair in np.stack(some, axis=1).tolist()}


@pytest.mark.parametrize("num", [0, 1, 2, 20])
def test_the_quick_way_with_hardly_any_pictures(num):
    buckets = BucketedIndex((32,), device="cpu")
    buckets.add(np.arange(num), np.tile(np.eye(1, 32, dtype=np.float32), (num, 1)), np.full(num, 32))
    assert len(found_pairs(Gallery(None, buckets, None), num, 0.9, False)) == num * (num - 1) // 2


def test_what_is_told_of_a_group(index):
    groups = {frozenset(one.id for one in group): group for group in index.near_duplicates(0.9)}
    assert {frozenset({f"{seed:03d}.png", f"{seed:03d}-0.png", f"{seed:03d}-1.png"}) for seed in range(5)} <= {*groups}
    copies = groups[frozenset({"039.png", "copy of 039.png"})]
    assert [one.similarity for one in copies] == [1.0, 1.0] and copies[0].label == "photos"
    group = groups[frozenset({"003.png", "003-0.png", "003-1.png"})]
    assert group[0].id == "003-1.png" and (group[0].width, group[0].height) == (67, 64)  # the one to keep
    vectors = dict(zip([one.id for one in group], stored(index, [one.id for one in group]), strict=True))
    for one in group:
        best = max(vectors[one.id] @ vectors[other.id] for other in group if other is not one)
        assert one.similarity == pytest.approx(best, abs=1e-5) and one.num_bytes > 0 and one.uri.endswith(one.id)


def stored(index: Index, ids: list[str]) -> np.ndarray:
    row_of = index._open_gallery().catalog.find(ids)
    return index._open_gallery().vectors(np.array([row_of[name] for name in ids]))


def test_only_what_a_filter_lets_through(index):
    for where in ("id LIKE '00%' AND width = 64", {"id": {"starts_with": "00"}, "width": 64}):
        rows = index._open_gallery().catalog.where(where)
        groups = index.near_duplicates(0.9, where=where)
        assert {frozenset(one.id for one in group) for group in groups} == plain_groups(index, rows, 0.9) != set()
    assert index.near_duplicates(0.9, where={"id": "039.png"}) == []
    assert index.near_duplicates(0.9, where="false") == []


def test_no_model_is_loaded(index):
    opened = Index.open(index.path)
    assert opened.near_duplicates(0.9) == index.near_duplicates(0.9) and opened._embedder is None


def test_an_empty_index_has_none(tmp_path):
    assert Index.create(tmp_path / "p.index", ToyEmbedder()).near_duplicates() == []


@pytest.mark.parametrize("threshold", [0, 1.5, -1, "0.9", True, float("nan")])
def test_what_is_no_threshold(index, threshold):
    with pytest.raises(UsageError, match=r"expected a threshold above 0, to 1 \(equal vectors\), got .*; try 0.95"):
        index.near_duplicates(threshold)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19))), st.integers(1, 5))
def test_components_are_what_links_lead_to(pairs, step):
    components = Components(20)
    for start in range(0, len(pairs), step):
        some = np.array(pairs[start : start + step], dtype=np.int64)
        components.join(some[:, 0], some[:, 1])
    expected = [*range(20)]
    for _ in range(20):
        for one, other in pairs:
            least = min(expected[one], expected[other])
            expected = [least if number in (expected[one], expected[other]) else number for number in expected]
    assert components.numbers().tolist() == expected


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.floats(0.1, 1.0))
def test_no_pair_escapes_its_bound(seed, threshold):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(30, 64)) * np.linspace(2, 0.1, 64)
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    sketches = alike.sketched(vectors)
    assert (sketches @ sketches.T >= vectors @ vectors.T - 1e-5).all()
    np.testing.assert_allclose(np.linalg.norm(sketches, axis=1), 1, atol=1e-5)
