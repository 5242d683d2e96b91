"""Bucketed search against one naive search over the zero-padded vectors."""

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.buckets import BucketedIndex, width_of
from indexer.storage.manifest import WIDTHS
from indexer.vectors.factory_bucket import FactoryBucket
from retrieval.errors import UsageError


def random_vectors(
    num: int, seed: int, *, longest: int = 512, distinct: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Vectors cut at random dims, unit length, and the dims; where `distinct` is given, only so many different ones."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((num, longest)).astype(np.float32)
    dims = rng.integers(1, longest + 1, num)
    vectors[np.arange(longest) >= dims[:, None]] = 0
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    if distinct is not None:
        chosen = rng.integers(0, min(distinct, num), num)
        vectors, dims = vectors[chosen], dims[chosen]
    return vectors, dims


def random_queries(num: int, seed: int, longest: int = 512) -> np.ndarray:
    queries = np.random.default_rng(seed).standard_normal((num, longest)).astype(np.float32)
    return queries / np.linalg.norm(queries, axis=1, keepdims=True)


def naive_search(ids, vectors, queries, top_k):
    """One 512-wide search in double precision, ties (equal to the last float32 digit) by id."""
    scores = (queries.astype(np.float64) @ vectors.astype(np.float64).T).astype(np.float32)
    every_id = np.broadcast_to(ids, scores.shape)
    order = np.lexsort((every_id, -scores), axis=-1)[:, :top_k]
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(every_id, order, axis=1)


def filled(ids, vectors, dims, **options) -> BucketedIndex:
    index = BucketedIndex(**options)
    index.add(ids, vectors, dims)
    return index


def test_by_hand():
    vectors = np.zeros((4, 4), dtype=np.float32)
    vectors[0, 0] = 1  # two numbers
    vectors[1, :3] = 0.6, 0, 0.8  # three, so the bucket of 4
    vectors[2, 1] = 1  # two
    vectors[3, 0] = 1  # four, and equal to the first
    index = filled([10, 11, 12, 7], vectors, [2, 3, 2, 4], widths=(2, 4))
    assert index.counts == {2: 2, 4: 2} and index.num_images == 4

    scores, ids = index.search(np.array([[0.5, 0.5, 0.5, 0.5], [0, 0, 1, 0]]), 3)

    assert ids.tolist() == [[11, 7, 10], [11, 7, 10]]
    np.testing.assert_allclose(scores, [[0.7, 0.5, 0.5], [0.8, 0, 0]], atol=1e-7)
    assert scores.dtype == np.float32 and ids.dtype == np.int64


@settings(deadline=None, max_examples=60)
@given(
    num=st.integers(1, 80),
    num_queries=st.integers(1, 12),
    top_k=st.integers(1, 100),
    widths=st.sampled_from([WIDTHS, (512,), (1, 7, 100, 512), (256, 512)]),
    distinct=st.sampled_from([None, 1, 3]),
    dtype=st.sampled_from(["float32", "float16"]),
    index_type=st.sampled_from(["Flat", "HNSW8", "IVF4,Flat"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_equals_one_wide_search(num, num_queries, top_k, widths, distinct, dtype, index_type, seed):
    vectors, dims = random_vectors(num, seed, distinct=distinct)
    ids = np.random.default_rng(seed).permutation(10 * num)[:num]
    queries = random_queries(num_queries, seed + 1)
    index = filled(ids, vectors, dims, widths=widths, dtype=dtype, index_type=index_type)

    scores, found = index.search(queries, top_k)

    stored = vectors.astype(dtype).astype(np.float32)
    expected_scores, expected_ids = naive_search(ids, stored, queries, top_k)
    assert scores.shape == found.shape == (num_queries, min(top_k, num))
    np.testing.assert_allclose(scores, expected_scores, atol=1e-6)
    true_score = dict(zip(ids.tolist(), (stored @ queries.T), strict=True))
    for row in range(num_queries):
        assert len(set(found[row])) == found.shape[1]
        np.testing.assert_allclose([true_score[i][row] for i in found[row].tolist()], scores[row], atol=1e-6)
        assert list(zip(-scores[row], found[row], strict=True)) == sorted(zip(-scores[row], found[row], strict=True))
        if distinct is not None:
            assert found[row].tolist() == expected_ids[row].tolist()


@settings(deadline=None, max_examples=30)
@given(
    num=st.integers(1, 60),
    share=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    dtype=st.sampled_from(["float32", "float16"]),
    index_type=st.sampled_from(["Flat", "HNSW8"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_allowed_equals_an_index_of_those_alone(num, share, dtype, index_type, seed):
    vectors, dims = random_vectors(num, seed)
    ids = np.arange(num) * 3
    is_allowed = np.random.default_rng(seed).random(num) < share
    queries = random_queries(5, seed + 1)
    index = filled(ids, vectors, dims, dtype=dtype, index_type=index_type)

    # 1 is no id of the index: it must be passed over.
    scores, found = index.search(queries, 7, allowed=np.union1d(ids[is_allowed], [1]))

    alone = filled(ids[is_allowed], vectors[is_allowed], dims[is_allowed], dtype=dtype)
    expected_scores, expected_ids = alone.search(queries, 7)
    np.testing.assert_array_equal(found, expected_ids)
    np.testing.assert_array_equal(scores, expected_scores)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_score_does_not_depend_on_the_batch(dtype):
    vectors, dims = random_vectors(3000, seed=0)
    index = filled(np.arange(3000), vectors, dims, dtype=dtype)
    queries = random_queries(200, seed=1)

    scores, ids = index.search(queries, 20)

    for rows in (slice(0, 1), slice(5, 8), slice(100, 200)):
        np.testing.assert_array_equal(index.search(queries[rows], 20), (scores[rows], ids[rows]))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_tie_that_crosses_the_cut_goes_by_id(dtype):
    one, dim = random_vectors(1, seed=0)
    others, other_dims = random_vectors(500, seed=1)
    vectors = np.concatenate([np.repeat(one, 400, axis=0), others])
    dims = np.concatenate([np.repeat(dim, 400), other_dims])
    # Half of the equal vectors claim a larger dim: the same numbers lie in another bucket as well.
    dims[:200] = 512
    ids = np.random.default_rng(2).permutation(900)
    index = filled(ids, vectors, dims, dtype=dtype)

    scores, found = index.search(np.concatenate([one, random_queries(60, seed=3), one]), 30)

    equal = np.sort(ids[:400])
    assert found[0].tolist() == found[-1].tolist() == equal[:30].tolist()
    assert len(set(scores[0])) == 1
    _, found = index.search(one, 30, allowed=equal[50:])
    assert found[0].tolist() == equal[50:80].tolist()


def test_query_without_length_ties_with_everything():
    vectors, dims = random_vectors(300, seed=0)
    scores, ids = filled(np.arange(300)[::-1], vectors, dims).search(np.zeros((2, 512), np.float32), 20)
    assert ids.tolist() == [list(range(20))] * 2 and not scores.any()


def test_long_vectors_and_queries_keep_their_order():
    vectors, dims = random_vectors(400, seed=0, distinct=20)
    vectors *= 1000
    queries = 1000 * random_queries(4, seed=1)
    scores, found = filled(np.arange(400), vectors, dims).search(queries, 50)
    expected_scores, expected_ids = naive_search(np.arange(400), vectors, queries, 50)
    np.testing.assert_allclose(scores, expected_scores, rtol=1e-6)
    np.testing.assert_array_equal(found, expected_ids)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("rows_dtype", ["float32", "float16"])
@pytest.mark.parametrize("index_type", ["Flat", "HNSW8"])
def test_rows_of_files_search_like_vectors(tmp_path, dtype, rows_dtype, index_type):
    vectors, dims = random_vectors(600, seed=0)
    vectors = vectors.astype(rows_dtype).astype(np.float32)
    ids = np.arange(600)
    direct = filled(ids, vectors, dims, dtype=dtype)
    from_files = BucketedIndex(dtype=dtype, index_type=index_type)
    for half in (ids < 250, ids >= 250):  # as two segments
        for width in WIDTHS:
            chosen = half & (width_of(dims, WIDTHS) == width)
            path = tmp_path / f"{int(chosen.argmax())}-{width}.npy"
            np.save(path, vectors[chosen, :width].astype(rows_dtype))
            from_files.add_rows(ids[chosen], np.load(path, mmap_mode="r"), width)
    queries = random_queries(9, seed=1)

    assert from_files.counts == direct.counts
    np.testing.assert_array_equal(from_files.search(queries, 600), direct.search(queries, 600))
    allowed = ids[::7]
    np.testing.assert_array_equal(
        from_files.search(queries, 10, allowed=allowed), direct.search(queries, 10, allowed=allowed)
    )


def test_vectors_added_after_a_search_are_found(monkeypatch):
    monkeypatch.setattr(FactoryBucket, "compares_all", lambda bucket, allowed: False)
    vectors, dims = random_vectors(40, seed=0)
    for index_type in ("Flat", "HNSW8"):
        index = filled(np.arange(20), vectors[:20], dims[:20], index_type=index_type)
        index.search(vectors[:1], 5)
        index.add(np.arange(20, 40), vectors[20:], dims[20:])
        assert index.search(vectors[30:31], 1)[1].tolist() == [[30]]


def test_empty_index_and_no_queries():
    index = BucketedIndex()
    scores, ids = index.search(random_queries(3, seed=0), 5)
    assert scores.shape == ids.shape == (3, 0)
    index.add(np.empty(0, np.int64), np.empty((0, 512), np.float32), np.empty(0, np.int64))
    assert index.num_images == 0
    vectors, dims = random_vectors(4, seed=0)
    index.add(np.arange(4), vectors, dims)
    assert index.search(np.empty((0, 512), np.float32), 3)[1].shape == (0, 3)
    assert index.search(vectors, 3, allowed=[])[1].shape == (4, 0)


@pytest.mark.parametrize("index_type", ["IVF32,Flat", "IVF32,SQ8", "PCA16,Flat", "HNSW16"])
def test_approximate_index_finds_most_and_scores_exactly(index_type):
    rng = np.random.default_rng(0)
    # A few directions and little noise: what an approximate index is made for.
    vectors = rng.standard_normal((11_000, 8)) @ rng.standard_normal((8, 32)) + 0.1 * rng.standard_normal((11_000, 32))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    ids = np.arange(11_000)
    index = BucketedIndex((32,), index_type=index_type)
    index.add_rows(ids, vectors, 32)

    scores, found = index.search(vectors[:100], 10)

    expected = naive_search(ids, vectors, vectors[:100], 10)[1]
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, expected, strict=True)])
    assert 0.8 <= recall
    np.testing.assert_allclose(scores, np.einsum("qd,qkd->qk", vectors[:100], vectors[found]), atol=1e-6)


def test_approximate_index_that_finds_too_few_is_completed():
    vectors = np.eye(64, dtype=np.float32)[np.arange(12_000) % 64]
    index = BucketedIndex((64,), index_type="IVF256,Flat")
    index.add_rows(np.arange(12_000), vectors, 64)
    scores, ids = index.search(vectors[:1], 9000)
    assert ids.shape == (1, 9000) and len(set(ids[0])) == 9000
    assert ids[0, :188].tolist() == list(range(0, 12_000, 64)) and scores[0, 187] == 1 and scores[0, 188] == 0


def test_settings_of_faiss_are_put_back():
    threads, threshold = faiss.omp_get_max_threads(), faiss.cvar.distance_compute_blas_threshold
    vectors, dims = random_vectors(50, seed=0)
    filled(np.arange(50), vectors, dims).search(vectors, 5)
    assert (faiss.omp_get_max_threads(), faiss.cvar.distance_compute_blas_threshold) == (threads, threshold)


class StandInForGpu:
    """A FAISS GPU index, as far as a search sees it: k up to 2048, no parameters, its own rounding."""

    num_searches = 0

    def __init__(self, index):
        self.index = faiss.clone_index(index)

    def search(self, queries, k):
        assert k <= 2048
        StandInForGpu.num_searches += 1
        return self.index.search(queries.astype(np.float16).astype(np.float32), k)


@pytest.fixture
def stand_in_for_gpu(monkeypatch):
    options = type("GpuClonerOptions", (), {"useFloat16": False})
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1)
    monkeypatch.setattr(faiss, "StandardGpuResources", lambda: "resources", raising=False)
    monkeypatch.setattr(faiss, "GpuClonerOptions", options, raising=False)
    monkeypatch.setattr(faiss, "index_cpu_to_gpu", lambda res, gpu, index, opts: StandInForGpu(index), raising=False)
    monkeypatch.setattr(StandInForGpu, "num_searches", 0)


def test_gpu_is_asked_where_it_can_answer(stand_in_for_gpu):
    vectors, dims = random_vectors(3000, seed=0, distinct=600)
    index = filled(np.arange(3000), vectors, dims, dtype="float16", device="auto")
    on_cpu = filled(np.arange(3000), vectors, dims, dtype="float16", device="cpu")
    queries = random_queries(20, seed=1)
    assert (index.device, on_cpu.device) == ("cuda", "cpu")

    for top_k, allowed, uses_gpu in ((10, None, True), (10, np.arange(0, 3000, 2), False), (2900, None, True)):
        before = StandInForGpu.num_searches
        found = index.search(queries, top_k, allowed=allowed)
        assert (StandInForGpu.num_searches > before) == uses_gpu
        np.testing.assert_array_equal(found, on_cpu.search(queries, top_k, allowed=allowed))
    index.add([3000], queries[:1], [512])
    assert index.search(queries[:1], 1)[1].tolist() == [[3000]]


def test_gpu_gives_the_same_results(device):
    if device != "cuda":
        pytest.skip("TEST_DEVICE is not cuda")
    vectors, dims = random_vectors(20_000, seed=0)
    queries = random_queries(50, seed=1)
    for dtype in ("float32", "float16"):
        on_gpu = filled(np.arange(20_000), vectors, dims, dtype=dtype, device="cuda")
        on_cpu = filled(np.arange(20_000), vectors, dims, dtype=dtype, device="cpu")
        for top_k in (10, 3000):
            np.testing.assert_array_equal(on_gpu.search(queries, top_k), on_cpu.search(queries, top_k))


def test_width_of():
    assert width_of(np.array([1, 32, 33, 64, 65, 256, 257, 512]), WIDTHS).tolist() == [
        32,
        32,
        64,
        64,
        128,
        256,
        512,
        512,
    ]


V, D = random_vectors(2, seed=0)
NAN = np.where(np.arange(512) == 0, np.nan, V)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda index: BucketedIndex((64, 32)), "ascending positive integers, got (64, 32)"),
        (lambda index: BucketedIndex(dtype="int8"), "'float16' or 'float32', got 'int8'"),
        (lambda index: BucketedIndex(device="tpu"), "'auto', 'cpu' or 'cuda', got 'tpu'"),
        (lambda index: BucketedIndex(index_type="PQ7"), "FAISS factory string for vectors of 32 numbers, got 'PQ7'"),
        (lambda index: BucketedIndex(index_type="FOO"), "got 'FOO' (could not parse index string FOO); try "),
        (lambda index: BucketedIndex(index_type="nonsense"), "got 'nonsense'"),
        (lambda index: BucketedIndex(index_type="IDMap,Flat"), "without IDMap"),
        (lambda index: BucketedIndex(index_type="PCA16,IDMap,Flat"), "without IDMap"),
        (lambda index: BucketedIndex(index_type="HNSW8", device="cuda"), "index type 'Flat' on device 'cuda'"),
        (lambda index: index.add([8, 9], V[:, :100], D), "vectors of shape (N, 512), got (2, 100)"),
        (lambda index: index.add([8, 9], V.astype(int), D), "vectors of float32, got int64"),
        (lambda index: index.add([8, 9], NAN, D), "vectors of finite numbers, got NaN or infinity"),
        (lambda index: index.add([8, 9], V, [0, 8]), "dims in 1..512, got 0"),
        (lambda index: index.add([8, 9], V, [513, 8]), "dims in 1..512, got 513"),
        (lambda index: index.add([8, 9], V, [8.5, 8]), "dims as (N,) integers"),
        (lambda index: index.add([8, 9], V, [8]), "one dim a vector, got 1 dims for 2 vectors"),
        (lambda index: index.add([8, 9], V, D - 1), "zero beyond their dim, got id 8 whole"),
        (lambda index: index.add([8], V, D), "expected 2 integer ids, got shape (1,)"),
        (lambda index: index.add([8.0, 9.0], V, D), "integer ids"),
        (lambda index: index.add([8, -1], V, D), "ids of at least 0, got -1"),
        (lambda index: index.add([8, 8], V, D), "each id once, got 8 twice"),
        (lambda index: index.add([8, 1], V, D), "expected new ids, got 1"),
        (lambda index: index.add_rows([8], V[:1, :48], 48), "width of (32, 64, 128, 256, 512), got 48"),
        (lambda index: index.add_rows([8], V[:1, :48], 64), "rows of shape (N, 64), got (1, 48)"),
        (lambda index: index.add_rows([8, 9], NAN.astype(np.float16), 512), "rows of finite numbers"),
        (lambda index: index.add_rows([8, 9], -NAN.astype(np.float16), 512), "rows of finite numbers"),
        (lambda index: index.search(V[0], 3), "queries of shape (N, 512), got (512,)"),
        (lambda index: index.search(NAN, 3), "queries of finite numbers"),
        (lambda index: index.search(V, 0), "top_k as an integer of at least 1, got 0"),
        (lambda index: index.search(V, 2.0), "top_k as an integer of at least 1, got 2.0"),
        (lambda index: index.search(V, 3, allowed=[0.5]), "allowed as (M,) integer ids"),
    ],
)
def test_mistakes_are_named(call, message):
    index = filled([0, 1], V, D, device="cpu")
    with pytest.raises(UsageError) as caught:
        call(index)
    assert message in str(caught.value) and "\n" not in str(caught.value) and ";" in str(caught.value)
    assert index.num_images == 2


def test_cuda_without_a_gpu_says_what_to_install(monkeypatch):
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 0)
    with pytest.raises(UsageError, match="install faiss-gpu in place of faiss-cpu"):
        BucketedIndex(device="cuda")
    assert BucketedIndex(device="auto").device == "cpu"


@pytest.mark.parametrize("index_type", ["Flat", "HNSW8"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_stored_vectors_by_id(index_type, dtype):
    vectors, dims = random_vectors(50, seed=3)
    index = BucketedIndex(dtype=dtype, device="cpu", index_type=index_type)
    ids = np.random.default_rng(0).permutation(500)[:50]
    index.add(ids[:20], vectors[:20], dims[:20])
    for _ in range(2):  # what is found again after more was added
        wanted = np.random.default_rng(1).integers(0, 20, 30)
        np.testing.assert_array_equal(index.vectors(ids[wanted]), vectors[wanted].astype(dtype).astype(np.float32))
        if index.num_images == 20:
            index.add(ids[20:], vectors[20:], dims[20:])
    np.testing.assert_array_equal(index.vectors(ids), vectors.astype(dtype).astype(np.float32))
    assert index.vectors(np.empty(0, np.int64)).shape == (0, 512)
    with pytest.raises(UsageError, match="expected ids that the index holds, got 2 others of 3"):
        index.vectors([ids[0], 500, -1])
    with pytest.raises(UsageError, match="got 1 others of 1"):
        BucketedIndex().vectors([0])
