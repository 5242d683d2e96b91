"""Hits by groups and hits that differ: what is selected of a ranking, page by page, and never fewer than there are."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import ToyEmbedder, png
from toy_rankers import weighing

from indexer import Index
from indexer.searching import ranking, selection
from indexer.searching.diversity import diversified, on_scale_of
from indexer.searching.grouping import Groups
from retrieval.errors import UsageError

NUM = 150
QUERY = png(5000)


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> Index:
    """A hundred and fifty pictures; nearly all are of one brand, some of none."""
    folder = tmp_path_factory.mktemp("selection")
    rng = np.random.default_rng(3)
    brands = [
        None if n % 30 == 7 else str(rng.choice(["big", "a", "b", "c"], p=[0.9, 0.04, 0.03, 0.03])) for n in range(NUM)
    ]
    table = pa.table(
        {
            "image": [png(seed) for seed in range(NUM)],
            "brand": brands,
            "shelf": rng.integers(0, 40, NUM),
            "cost": [float("nan") if n % 3 else 1.0 for n in range(NUM)],
        }
    )
    pq.write_table(table, folder / "p.parquet")
    index = Index.create(folder / "p.index", ToyEmbedder(), dtype="float32")
    index.add(folder / "p.parquet", num_workers=0)
    return index


@pytest.fixture(autouse=True)
def shallow(monkeypatch):
    """Rankings are read a few images at a time, so that these few pictures are a deep ranking."""
    monkeypatch.setattr(ranking, "_FIRST_DEPTH", 4)
    monkeypatch.setattr(ranking, "_DEEPENING", 2)
    monkeypatch.setattr(selection, "_DEEPENING", 2)


def ids(hits) -> list[str]:
    return [hit.id for hit in hits]


def grouped(hits: list, column: str, size: int) -> list[str]:
    """The plain meaning: walk down the ranking and leave out what there are enough of."""
    nums, kept = {}, []
    for hit in hits:
        value = hit.columns[column]
        nums[value] = nums.get(value, 0) + 1
        if value is None or nums[value] <= size:
            kept.append(hit.id)
    return kept


OPTIONS = [
    {"rerank": 0},
    {"rerank": 25, "ranker": weighing(product=-1)},
    {"rerank": 0, "where": "shelf < 20"},
    {"rerank": 10, "ranker": weighing(token1=1), "where": {"shelf": {"gte": 5}}, "min_score": -0.02, "expand": 2},
]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize(("column", "size"), [("brand", 1), ("brand", 3), ("shelf", 1), ("shelf", 2), ("cost", 2)])
def test_groups_are_what_a_walk_down_the_ranking_leaves(index, options, column, size):
    (query,) = index.encode_pictures([QUERY])
    expected = grouped(index.search(query, top_k=NUM, **options), column, size)
    for top_k, offset in ((1, 0), (5, 0), (5, 3), (NUM, 0), (7, 20)):
        hits = index.search(query, top_k=top_k, offset=offset, group_by=column, group_size=size, **options)
        assert ids(hits) == expected[offset : offset + top_k]
        assert [hit.rank for hit in hits] == [*range(offset + 1, offset + 1 + len(hits))]


def test_many_queries_are_grouped_one_by_one(index):
    queries = index.encode_pictures([png(seed) for seed in range(5000, 5012)])
    found = index.search_many(queries, top_k=4, group_by="brand", rerank=0)
    assert [ids(hits) for hits in found] == [
        ids(index.search(query, top_k=4, group_by="brand", rerank=0)) for query in queries
    ]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("group_by", [None, "shelf"])
def test_diverse_pages_are_slices_of_one_order(index, options, group_by, monkeypatch):
    monkeypatch.setattr(selection, "NUM_DIVERSIFIED", 20)
    (query,) = index.encode_pictures([QUERY])
    options = options | {"group_by": group_by}
    plain = index.search(query, top_k=NUM, **options)
    hits = index.search(query, top_k=NUM, diverse=0.5, **options)
    assert ids(hits)[20:] == ids(plain)[20:] and sorted(ids(hits)[:20]) == sorted(ids(plain)[:20])
    assert ids(hits)[0] == ids(plain)[0] and ids(hits) != ids(plain)
    by_id = {hit.id: hit for hit in plain}
    assert all((hit.score, hit.similarity) == (by_id[hit.id].score, by_id[hit.id].similarity) for hit in hits)
    pages = [index.search(query, top_k=7, offset=n, diverse=0.5, **options) for n in range(0, len(hits), 7)]
    assert [hit for page in pages for hit in page] == hits
    assert index.search(query, diverse=0, **options) == plain[:10]


def test_the_order_by_hand(index):
    """Relevance and likeness worked out step by step from what is stored."""
    (query,) = index.encode_pictures([QUERY])
    plain = index.search(query, top_k=NUM, rerank=0)
    row_of = {name: row for row, name in enumerate(index.catalog()["id"])}
    vectors = index._open_gallery().vectors(np.array([row_of[hit.id] for hit in plain]))
    for diversity in (0.3, 0.9, 1.0):
        left, shown = [*range(NUM)], []
        while left:
            penalties = {i: max((vectors[i] @ vectors[j] for j in shown), default=0.0) for i in left}
            best = max(left, key=lambda i: ((1 - diversity) * plain[i].score - diversity * penalties[i], -i))
            shown.append(best)
            left.remove(best)
        hits = index.search(query, top_k=NUM, rerank=0, diverse=diversity)
        assert ids(hits) == [plain[i].id for i in shown] and hits[0] == plain[0]


def test_a_copy_comes_late():
    vectors = np.array([[1, 0], [1, 0], [0.6, 0.8], [0, 1]], np.float32)
    relevance = np.array([0.9, 0.89, 0.6, 0.1])
    assert diversified(relevance, vectors, 0.0).tolist() == [0, 1, 2, 3]
    # 1 has .445 - .5, 2 has .3 - .3, 3 has .05 - 0; then 1: .445 - .5, 2: .3 - .4.
    assert diversified(relevance, vectors, 0.5).tolist() == [0, 3, 1, 2]
    assert diversified(relevance, vectors, 1.0).tolist() == [0, 3, 2, 1]
    assert diversified(relevance[:0], vectors[:0], 0.5).tolist() == []


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 30), st.floats(0, 1), st.integers(0, 100))
def test_every_image_is_shown_once_and_the_best_first(num, diversity, seed):
    rng = np.random.default_rng(seed)
    relevance, vectors = np.sort(rng.normal(size=num))[::-1], rng.normal(size=(num, 4)).astype(np.float32)
    order = diversified(relevance, vectors, diversity)
    assert sorted(order) == [*range(num)] and order[0] == 0


def test_scores_on_the_scale_of_products():
    scaled = on_scale_of(np.array([5.0, 3.0, 1.0]), np.array([0.2, 0.5, 0.8]))
    assert scaled.mean() == pytest.approx(0.5) and scaled.tolist() == pytest.approx([0.8, 0.5, 0.2])
    assert on_scale_of(np.array([2.0, 2.0]), np.array([0.2, 0.4])).tolist() == pytest.approx([0.3, 0.3])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(["a", "b", None])), st.integers(1, 3), st.randoms())
def test_the_best_of_each_group_by_a_loop(values, size, random):
    groups = Groups("x", pa.array(values, pa.string()), size)
    rows = [*range(len(values))]
    random.shuffle(rows)
    nums, expected = {}, []
    for place, row in enumerate(rows):
        value = values[row] or row
        nums[value] = nums.get(value, 0) + 1
        if nums[value] <= size:
            expected.append(place)
    rows = np.array(rows, dtype=np.int64)
    assert groups.best(rows).tolist() == expected and groups.most(rows) == len(expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"group_by": "brnad"}, r"expected a column, one of id, uri, .*, got 'brnad'; did you mean 'brand'\?"),
        ({"group_by": 3}, "expected a column, one of id, uri, .*, got 3"),
        ({"group_by": "brand", "group_size": 0}, "expected group_size as an integer of at least 1, got 0"),
        ({"group_size": 2}, "expected group_size together with group_by, got 2 alone; name a column"),
        ({"diverse": 1.5}, r"expected diverse from 0 \(by relevance\) to 1 \(by difference\), got 1.5"),
        ({"diverse": True}, "expected diverse from 0"),
        ({"min_score": "high"}, "expected min_score as a number, got 'high'"),
    ],
)
def test_what_cannot_be_selected(index, options, message):
    with pytest.raises(UsageError, match=message):
        index.search(QUERY, **options)
    with pytest.raises(UsageError, match="expected a column of plain values to group by, got 'x', which holds struct"):
        Groups("x", pa.array([{"a": 1}]), 1)
