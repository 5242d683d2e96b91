"""Rows that are searched where they lie: pieces, dead rows that are passed over, and numbers that are none."""

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.buckets import BucketedIndex
from indexer.vectors import row_pieces
from indexer.vectors.row_pieces import RowPieces
from retrieval.errors import DamagedError


def unit_rows(num: int, width: int = 64, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((num, width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_a_large_piece_is_not_copied_and_small_ones_are_put_together():
    large, small = unit_rows(9000).astype(np.float16), unit_rows(10, seed=1).astype(np.float16)
    pieces = RowPieces(64, np.dtype(np.float16))
    for rows in (small, small, large, small, small):
        pieces.append(rows)
    spans = [(piece.span.start, piece.span.stop) for piece in pieces]
    assert spans == [(0, 20), (20, 9020), (9020, 9040)] and len(pieces) == 9040
    assert np.shares_memory(pieces._pieces[1], large)
    whole = np.concatenate([small, small, large, small, small]).astype(np.float32)
    np.testing.assert_array_equal(pieces.take(slice(5, 9031)), whole[5:9031])
    np.testing.assert_array_equal(pieces.take(slice(9039, 9999)), whole[9039:])
    some = np.random.default_rng(0).integers(0, 9040, 500)
    np.testing.assert_array_equal(pieces.take(some), whole[some])
    for piece in pieces:
        scores, nearest = piece.view.search(whole[piece.span][:1], 1)
        assert nearest.tolist() == [[0]] and scores[0, 0] == pytest.approx(1, abs=1e-3)


@settings(deadline=None, max_examples=40)
@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=5),
    share=st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]),
    num_queries=st.sampled_from([1, 3, 60]),
    dtype=st.sampled_from(["float16", "float32"]),
    seed=st.integers(0, 2**31),
)
def test_dead_rows_are_passed_over_exactly(sizes, share, num_queries, dtype, seed):
    rng = np.random.default_rng(seed)
    passed_over, without = (BucketedIndex((64,), dtype=dtype, device="cpu") for _ in range(2))
    first = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_pieces, "_SMALL", int(rng.choice([1, 1 << 20])))
        for size in sizes:
            # Few different rows, so that ties cross the cut.
            rows = unit_rows(size, seed=seed)[rng.integers(0, size, size)].astype(dtype)
            live, ids = rng.random(size) >= share, first + np.arange(size)
            passed_over.add_rows(ids, rows, 64, live=live, trusted=True)
            if live.any():
                without.add_rows(ids[live], rows[live], 64)
            first += size
        queries = unit_rows(num_queries, seed=seed + 1)
        assert passed_over.num_images == without.num_images and passed_over.counts == without.counts
        for top_k in (3, 1000):
            np.testing.assert_array_equal(passed_over.search(queries, top_k), without.search(queries, top_k))
        allowed = np.arange(-1, first, 2)  # dead rows and no rows among them
        np.testing.assert_array_equal(
            passed_over.search(queries, 5, allowed=allowed), without.search(queries, 5, allowed=allowed)
        )
        kept = without._buckets[0].ids
        np.testing.assert_array_equal(passed_over.vectors(kept), without.vectors(kept))


@pytest.mark.parametrize("num_queries", [1, 60])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_noticed_where_they_are_met(number, dtype, num_queries):
    rows = unit_rows(50).astype(dtype)
    rows[7] = number
    index = BucketedIndex((64,), dtype=dtype, device="cpu")
    index.add_rows(np.arange(50), rows, 64, trusted=True)
    told = "expected vectors of finite numbers in each vectors-064.npy, got NaN or infinity; `verify` lists"
    with pytest.raises(DamagedError, match=told):
        index.search(unit_rows(num_queries, seed=1), 50)


def test_without_views_rows_are_copied(monkeypatch):
    rows = unit_rows(100)
    monkeypatch.delattr(faiss, "MaybeOwnedVectorUInt8")
    index = BucketedIndex((64,), device="cpu")
    index.add_rows(np.arange(100), rows, 64)
    assert index.search(rows[:5], 1)[1].ravel().tolist() == [0, 1, 2, 3, 4]
