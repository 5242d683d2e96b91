"""Looking around without a query: images drawn at random, the map of the embeddings, the figures of a corpus."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy import ToyEmbedder, png, write_coloured

from indexer import Index
from indexer.catalog import Catalog
from indexer.overview import format_of, histogram, overview
from indexer.searching.browsing import principal_plane
from indexer.stored_catalog import StoredCatalog
from retrieval.errors import UsageError


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    root = tmp_path_factory.mktemp("browsing")
    index = Index.create(root / "index", ToyEmbedder())
    (root / "pictures").mkdir()
    (root / "pictures" / "broken.png").write_bytes(b"no picture")
    index.add(write_coloured(root / "pictures", 6), label_from="parent", num_workers=0)
    return index


def test_a_sample_goes_on_without_repeats(index):
    pages = [index.sample(10, seed=3, offset=start) for start in (0, 10, 20)]
    assert list(map(len, pages)) == [10, 10, 4]
    assert set(pd.concat(pages)["id"]) == set(index.catalog()["id"])
    assert list(index.sample(10, seed=3)["id"]) == list(pages[0]["id"]) != list(index.sample(10, seed=4)["id"])


def test_a_sample_where_a_condition_holds(index):
    assert list(index.sample(100, where="label = 'red'")["label"]) == ["red"] * 6
    with pytest.raises(UsageError, match="expected num_images and offset"):
        index.sample(-1)


def test_a_map_has_a_place_for_each_image(index):
    places = index.embedding_map()
    assert len(places) == 24 and {"id", "uri", "label", "dim", "x", "y"} <= {*places.columns}
    assert np.abs(places[["x", "y"]].mean()).max() < 1e-6 and places["x"].std() >= places["y"].std() > 0
    assert len(index.embedding_map(5)) == 5


def test_an_empty_index(tmp_path):
    index = Index.create(tmp_path / "index", ToyEmbedder())
    assert len(index.sample(5)) == len(index.embedding_map()) == 0
    found = index.overview()
    assert found.mean_dim is None and found.num_images == len(found.plainest) == len(found.dims.counts) == 0
    assert all(column.num_values == 0 for column in index.columns())


def test_the_plane_by_hand():
    # Along (3, 4) by -2 to 2, across it, along (-4, 3), by less, and not at all along the third direction.
    along, across = np.array([3, 4, 0]) / 5, np.array([-4, 3, 0]) / 5
    vectors = np.array([10, 0, 5]) + [[-2], [0], [2], [0]] * along + [[0], [-1], [0], [1]] * across
    # The largest number of `along` is 4/5, and of `across` −4/5, which is turned around.
    assert principal_plane(vectors) == pytest.approx(np.array([[-2, 0], [0, 1], [2, 0], [0, -1]]), abs=1e-9)


@given(st.integers(1, 30), st.integers(2, 8), st.integers(0, 1000))
def test_the_plane_keeps_the_most(num, length, seed):
    vectors = np.random.default_rng(seed).normal(size=(num, length))
    places = principal_plane(vectors)
    # As a singular value decomposition says it.
    squares = np.linalg.svd(vectors - vectors.mean(axis=0), compute_uv=False)[:2] ** 2
    assert (places**2).sum(axis=0)[: len(squares)] == pytest.approx(squares, abs=1e-9)


def test_what_could_not_be_read(index):
    (failure,) = index.failures()
    assert failure["id"] == "broken.png" and "expected" in failure["reason"] and failure["when"]


def test_figures_by_hand():
    rows = [("a.JPG", 10, 10, 50, 64, "x"), ("b.jpeg", 10, 20, 800, 32, "x"), ("t.parquet#3", 5, 5, 100, 300, None)]
    columns = ["uri", "width", "height", "bytes", "dim", "label"]
    table = pa.Table.from_pandas(pd.DataFrame(rows, columns=columns).assign(id=["a", "b", "c"]))
    found = overview(Catalog(table, np.array([True, True, True])))
    assert (found.num_images, found.num_bytes, found.mean_dim) == (3, 950, 132)
    assert found.formats == {"jpeg": 2, "in parquet": 1} and found.labels == {"x": 2}
    assert list(found.plainest["id"]) == ["b", "a", "c"] and list(found.plainest["bytes_per_pixel"]) == [4.0, 0.5, 4.0]
    assert list(found.most_crowded["id"]) == ["c", "a", "b"]
    assert found.dims.edges.tolist() == [*range(30, 311, 10)] and found.dims.counts.sum() == 3
    assert (found.dims.counts[0], found.dims.counts[3], found.dims.counts[27]) == (1, 1, 1)
    fewer = overview(Catalog(table, np.array([True, False, True])), num_extremes=1)
    assert (fewer.num_images, fewer.formats) == (2, {"jpeg": 1, "in parquet": 1})
    assert list(fewer.plainest["id"]) == ["a"] and list(fewer.most_crowded["id"]) == ["c"]


@pytest.mark.parametrize(
    ("uri", "expected"),
    [("/a/b.tif", "tiff"), ("/x.tar#a/b.png", "png"), ("/x.csv#7", "in csv"), ("/nothing", "unknown")],
)
def test_formats(uri, expected):
    assert format_of(uri) == expected


@given(st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=1, max_size=50))
def test_a_histogram_counts_all_between_its_edges(numbers):
    found = histogram(np.array(numbers))
    assert found.counts.sum() == len(numbers) and 1 <= len(found.counts) <= 40
    step = np.diff(found.edges)
    slack = 1e-6 * max(1e-9, step.max())
    assert found.edges[0] <= min(numbers) + slack and max(numbers) <= found.edges[-1] + slack
    assert np.allclose(step, step[0]) and float(f"{step[0]:.0e}"[0]) in (1, 2, 5)


def test_what_there_is_in_the_columns(index):
    columns = {column.name: column for column in index.columns(most_values=4)}
    assert list(columns) == list(index.catalog().columns)
    assert set(columns["label"].values) == {"red", "green", "blue", "grey"} and columns["label"].num_values == 24
    assert columns["id"].values is None and columns["id"].low is None
    width = columns["width"]
    assert (width.low, width.high, width.is_whole, width.values) == (40, 40, True, None)


def test_rows_are_read_alone(index, monkeypatch):
    """Looking around at a million images must not read them all."""

    def whole(catalog):
        raise AssertionError("expected single rows and columns, got all of the catalog")

    monkeypatch.setattr(StoredCatalog, "table", property(whole))
    fresh = Index.open(index.path, ToyEmbedder())
    assert len(fresh.sample(5)) == len(fresh.embedding_map(5)) == 5
    assert fresh.overview().num_images == 24 and len(fresh.columns()) == 9
    assert fresh.row("red/0.png")["label"] == "red" and len(fresh.search(png(1))) == 10
    uri = fresh.row("red/1.png")["uri"]
    assert fresh.record_feedback("red/0.png", uri, True).image == "red/1.png"
