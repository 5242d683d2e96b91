"""One FAISS index per width; a search asks each with the query's first numbers and merges the answers by score.

FAISS proposes candidates, a few more than were asked for; their scores are then computed once more, in double
precision, from the stored rows. So a score depends on the query and the vector alone (not on the batch, the device or
the index type), equal vectors score equally in whichever bucket they lie, and ties are ordered by id.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import faiss
import numpy as np

from retrieval.errors import UsageError

WIDTHS = (32, 64, 128, 256, 512)

# Candidates beyond the ones asked for, room to see whether a tie crosses the cut; and how far FAISS's scores of unit
# vectors may be off: float32 sums, and beside a float16 index on a GPU queries that FAISS rounds to 11 bits.
_SPARE, _ROUNDING = 16, 4e-6
_GPU_HALF_SPARE, _GPU_HALF_ROUNDING = 64, 5e-4
_GPU_MAX_CANDIDATES = 2048  # what FAISS's GPU kernels can select
_BLOCK = 16384  # rows looked at together in a scan; bounds the memory of one
_SCAN_BELOW = 10_000  # rows that are compared faster than an approximate index over them is built
_PAIRS = 4096  # (query, row) pairs scored together
_NO_ID = np.iinfo(np.int64).max

# FAISS's thresholds are global to the process, and its GPU resources serve one thread at a time.
_faiss_lock = threading.Lock()


def width_of(dims: np.ndarray, widths: Sequence[int] = WIDTHS) -> np.ndarray:
    """The width of the bucket that holds each dim: the smallest one that is large enough.

    `dims` (N,) integers in [1, widths[-1]]; returns (N,) int64. Raises `UsageError` for a dim outside that range.
    """
    dims = np.asarray(dims)
    if dims.ndim != 1 or not (np.issubdtype(dims.dtype, np.integer) or dims.size == 0):
        raise UsageError(
            f"expected dims as (N,) integers, got shape {dims.shape} of {dims.dtype}; pass one dim a vector"
        )
    outside = (dims < 1) | (dims > widths[-1])
    if outside.any():
        raise UsageError(
            f"expected dims in 1..{widths[-1]}, got {dims[outside][0]}; cut the vector or add a wider bucket"
        )
    return np.asarray(widths, dtype=np.int64)[np.searchsorted(widths, dims)]


class BucketedIndex:
    """Vectors of different lengths in one search: a bucket per width, merged into one ranking.

    With index type "Flat" the result is exactly that of one search over the zero-padded vectors: the inner product with
    the whole query, order by score descending, then id ascending, also where a tie crosses the cut. Any other type is a
    FAISS factory string, built for each bucket: its candidates are approximate, their scores and order are not. Of a
    small bucket (10,000 rows, more where the type needs them for training) and of one restricted by `allowed`, every
    row is compared.

    `dtype` "float16" halves the memory; scores are then those of the rounded vectors. `device` "cuda" scans on the
    first GPU and needs a FAISS that can, "auto" uses one where there is one. A search may run in any thread, one at a
    time in a process; `add` must not run beside it.
    """

    def __init__(
        self,
        widths: Sequence[int] = WIDTHS,
        *,
        dtype: str = "float32",
        device: str = "auto",
        index_type: str = "Flat",
    ) -> None:
        self.widths = tuple(int(width) for width in widths)
        if not self.widths or self.widths[0] < 1 or list(self.widths) != sorted(set(self.widths)):
            raise UsageError(f"expected widths as ascending positive integers, got {tuple(widths)}; try {WIDTHS}")
        if dtype not in ("float32", "float16"):
            raise UsageError(f"expected dtype 'float32' or 'float16', got {dtype!r}; choose one of the two")
        self.dtype = np.dtype(dtype)
        self.index_type = index_type
        self.device = _checked_device(device, index_type)
        if index_type == "Flat":
            gpu_resources = faiss.StandardGpuResources() if self.device == "cuda" else None
            self._buckets = [_PlainBucket(width, self.dtype, gpu_resources) for width in self.widths]
        else:
            self._buckets = [_FactoryBucket(width, self.dtype, index_type) for width in self.widths]
        on_gpu_in_half = self.device == "cuda" and self.dtype == np.float16
        self._num_spare = _GPU_HALF_SPARE if on_gpu_in_half else _SPARE
        self._rounding = _GPU_HALF_ROUNDING if on_gpu_in_half else _ROUNDING

    @property
    def num_images(self) -> int:
        """How many vectors are held, over all buckets."""
        return sum(bucket.num_rows for bucket in self._buckets)

    @property
    def counts(self) -> dict[int, int]:
        """How many vectors each bucket holds, by width."""
        return {bucket.width: bucket.num_rows for bucket in self._buckets}

    def add(self, ids: np.ndarray, vectors: np.ndarray, dims: np.ndarray) -> None:
        """Add vectors, each to the bucket of its dim; all of them or, where an argument is off, none.

        `ids` (N,) non-negative integers, new to the index; `vectors` (N, widths[-1]), zero beyond their dim and of unit
        length (`Embeddings.vectors`); `dims` (N,) integers in [1, widths[-1]]. Raises `UsageError`.
        """
        vectors = _checked_floats("vectors", vectors, self.widths[-1]).astype(np.float32, copy=False)
        dims = np.asarray(dims)
        vector_widths = width_of(dims, self.widths)
        ids = self._checked_new_ids(ids, len(vectors))
        if len(dims) != len(vectors):
            raise UsageError(
                f"expected one dim a vector, got {len(dims)} dims for {len(vectors)} vectors; align the two"
            )
        uncut = ((np.arange(self.widths[-1]) >= dims[:, None]) & (vectors != 0)).any(axis=1)
        if uncut.any():
            raise UsageError(
                f"expected vectors that are zero beyond their dim, got id {ids[uncut][0]} whole; "
                "pass the cut vectors of the embedder (Embeddings.vectors)"
            )
        for bucket in self._buckets:
            (mine,) = np.nonzero(vector_widths == bucket.width)
            if len(mine):
                bucket.add(ids[mine], vectors[mine, : bucket.width])

    def add_rows(self, ids: np.ndarray, rows: np.ndarray, width: int) -> None:
        """Add rows that come already cut to a bucket's width, such as a memory-mapped file of them.

        `ids` (N,) as in `add`; `rows` (N, width) float32 or float16; where that is the dtype of the index, opening is
        one copy. A factory index type keeps `rows` itself to read from later. Raises `UsageError`.
        """
        if width not in self.widths:
            raise UsageError(
                f"expected a width of {self.widths}, got {width}; open the index with the widths it was made with"
            )
        rows = _checked_floats("rows", rows, width)
        ids = self._checked_new_ids(ids, len(rows))
        if len(ids):
            self._buckets[self.widths.index(width)].add(ids, rows)

    def search(
        self, queries: np.ndarray, top_k: int, *, allowed: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The best-scoring images for each query.

        `queries` (Q, widths[-1]) float, uncut; `top_k` at least 1; `allowed` optional (M,) ids to restrict the search
        to, those not in the index are passed over. Returns `scores` (Q, K) float32, the inner products, and `ids`
        (Q, K) int64, by score descending, then id ascending, with K = min(top_k, number of images [allowed]); every id
        is one that was added. Raises `UsageError`.
        """
        queries = _checked_floats("queries", queries, self.widths[-1]).astype(np.float32, copy=False)
        if not isinstance(top_k, (int, np.integer)) or top_k < 1:
            raise UsageError(f"expected top_k as an integer of at least 1, got {top_k!r}; ask for one hit or more")
        masks = [None] * len(self._buckets) if allowed is None else self._masks(allowed)
        parts = [(bucket, mask) for bucket, mask in zip(self._buckets, masks, strict=True) if bucket.num_allowed(mask)]
        num_rows = sum(bucket.num_allowed(mask) for bucket, mask in parts)
        num_hits = min(int(top_k), num_rows)
        scores = np.empty((len(queries), num_hits), dtype=np.float32)
        ids = np.empty((len(queries), num_hits), dtype=np.int64)
        if num_hits == 0:
            return scores, ids
        num_queries_at_once = max(1, min(1024, 2**22 // num_hits))
        with _faiss_lock:
            for start in range(0, len(queries), num_queries_at_once):
                some = slice(start, start + num_queries_at_once)
                scores[some], ids[some] = self._search(queries[some], num_hits, parts, num_rows)
            short = ids[:, -1] == _NO_ID  # an approximate index may find fewer rows than there are
            if short.any():
                scores[short], ids[short] = self._search(queries[short], num_hits, parts, num_rows, scan=True)
        return scores, ids

    def _search(self, queries, num_hits, parts, num_rows, *, scan=False):
        """As `search`, over `parts`, the buckets that hold any of the `num_rows` rows to look at, with their masks."""
        found, owners = [], []
        for owner, (bucket, mask) in enumerate(parts):
            num_candidates = min(num_hits + self._num_spare, bucket.num_allowed(mask))
            cut = np.ascontiguousarray(queries[:, : bucket.width])
            with _tuned(len(queries)):
                found.append(bucket.candidates(cut, num_candidates, mask, scan=scan))
            owners.append(np.full(num_candidates, owner))
        rough, positions = (np.concatenate(arrays, axis=1) for arrays in zip(*found, strict=True))
        owners = np.broadcast_to(np.concatenate(owners), positions.shape)
        rough, positions, owners = _best(num_hits + self._num_spare, rough, positions, owners)

        query_of_pair = np.repeat(np.arange(len(queries)), positions.shape[1])
        scores, ids, longest = _score(queries, parts, query_of_pair, owners.ravel(), positions.ravel())
        scores, ids = scores.reshape(positions.shape), ids.reshape(positions.shape)
        order = np.lexsort((ids, -scores), axis=-1)[:, :num_hits]
        scores, ids = np.take_along_axis(scores, order, axis=1), np.take_along_axis(ids, order, axis=1)

        is_exact = scan or all(bucket.compares_all(mask) for bucket, mask in parts)
        if is_exact and positions.shape[1] < num_rows:
            # A row that was left out may still belong where the last candidate scores as the last hit does.
            floors = scores[:, -1] - self._rounding * longest * np.linalg.norm(queries, axis=1)
            (tied,) = np.nonzero(rough.min(axis=1) >= floors)
            for start in range(0, len(tied), 16):
                some = tied[start : start + 16]
                scores[some], ids[some] = _search_ties(queries[some], floors[some], num_hits, parts)
        return scores, ids

    def _masks(self, allowed):
        allowed = np.asarray(allowed)
        if allowed.ndim != 1 or not (np.issubdtype(allowed.dtype, np.integer) or allowed.size == 0):
            raise UsageError(
                f"expected allowed as (M,) integer ids, got shape {allowed.shape} of {allowed.dtype}; pass ids"
            )
        return [np.isin(bucket.ids, allowed.astype(np.int64)) for bucket in self._buckets]

    def _checked_new_ids(self, ids, num_rows):
        ids = np.asarray(ids)
        if ids.shape != (num_rows,) or not (np.issubdtype(ids.dtype, np.integer) or ids.size == 0):
            raise UsageError(
                f"expected {num_rows} integer ids, got shape {ids.shape} of {ids.dtype}; pass one id a vector"
            )
        ids = ids.astype(np.int64)
        if len(ids) and ids.min() < 0:
            raise UsageError(f"expected ids of at least 0, got {ids.min()}; number the images from 0")
        in_order = np.sort(ids)
        repeated = in_order[1:][in_order[1:] == in_order[:-1]]
        if len(repeated):
            raise UsageError(f"expected each id once, got {repeated[0]} twice; give every image its own id")
        for bucket in self._buckets:
            known = bucket.known_of(in_order)
            if len(known):
                raise UsageError(
                    f"expected new ids, got {known[0]}, which the index holds already; give every image its own id"
                )
        return ids


class _Bucket:
    """The rows of one width and their ids; subclasses hold the rows and propose candidates."""

    def __init__(self, width: int, dtype: np.dtype) -> None:
        self.width = width
        self.dtype = dtype
        self.ids = np.empty(0, dtype=np.int64)
        self._id_blocks: list[np.ndarray] = []

    @property
    def num_rows(self) -> int:
        return len(self.ids)

    def add(self, ids: np.ndarray, rows: np.ndarray) -> None:
        self._hold(rows)
        self.ids = np.concatenate([self.ids, ids])
        self._id_blocks.append(np.sort(ids))

    def known_of(self, ids: np.ndarray) -> np.ndarray:
        """Those of the sorted `ids` that are here already."""
        # Ids mostly arrive in ascending runs, so hardly any block overlaps with new ones, and this stays cheap.
        overlapping = [block for block in self._id_blocks if len(ids) and block[0] <= ids[-1] and ids[0] <= block[-1]]
        return ids[np.isin(ids, np.concatenate(overlapping))] if overlapping else ids[:0]

    def num_allowed(self, allowed: np.ndarray | None) -> int:
        """How many rows the mask `allowed` (num_rows,) lets through; all of them where there is no mask."""
        return self.num_rows if allowed is None else int(np.count_nonzero(allowed))

    def rows(self, selection: slice | np.ndarray) -> np.ndarray:
        """The selected rows, (N, width) float32."""
        raise NotImplementedError

    def _hold(self, rows: np.ndarray) -> None:
        raise NotImplementedError

    def compares_all(self, allowed: np.ndarray | None) -> bool:
        """Whether candidates are the true nearest rows rather than an approximation."""
        raise NotImplementedError

    def candidates(
        self, queries: np.ndarray, num_candidates: int, allowed: np.ndarray | None, *, scan: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rough scores and positions, (Q, num_candidates) each, a position of -1 where there is none.

        `num_candidates` is at most the number of rows that the mask `allowed` (num_rows,) lets through; `scan` asks for
        the true nearest of an approximate bucket.
        """
        raise NotImplementedError

    def scan(
        self, queries: np.ndarray, num_candidates: int, allowed: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `candidates`, comparing every allowed row, a block of them at a time."""
        scores, positions = np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        for selection, rows in self._blocks(allowed):
            block_scores, local = faiss.knn(queries, rows, min(num_candidates, len(rows)), faiss.METRIC_INNER_PRODUCT)
            block_positions = selection.start + local if isinstance(selection, slice) else selection[local]
            scores = np.concatenate([scores, block_scores], axis=1)
            positions = np.concatenate([positions, block_positions], axis=1)
            scores, positions = _best(num_candidates, scores, positions)
        return scores, positions

    def at_least(
        self, queries: np.ndarray, floors: np.ndarray, allowed: np.ndarray | None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Pairs of query and position whose score is `floors` (Q,) or more, a block of rows at a time."""
        for selection, rows in self._blocks(allowed):
            query_of_pair, local = np.nonzero(queries @ rows.T >= floors[:, None])
            yield query_of_pair, selection.start + local if isinstance(selection, slice) else selection[local]

    def _blocks(self, allowed: np.ndarray | None) -> Iterator[tuple[slice | np.ndarray, np.ndarray]]:
        positions = None if allowed is None else np.flatnonzero(allowed)
        num_rows = self.num_rows if positions is None else len(positions)
        for start in range(0, num_rows, _BLOCK):
            some = slice(start, min(start + _BLOCK, num_rows))
            selection = some if positions is None else positions[some]
            yield selection, self.rows(selection)


class _PlainBucket(_Bucket):
    """Rows in a FAISS index that compares them all; on a GPU, a copy of it there does where it can."""

    def __init__(self, width: int, dtype: np.dtype, gpu_resources) -> None:
        super().__init__(width, dtype)
        if dtype == np.float16:
            half = faiss.ScalarQuantizer.QT_fp16
            self._index = faiss.IndexScalarQuantizer(width, half, faiss.METRIC_INNER_PRODUCT)
        else:
            self._index = faiss.IndexFlatIP(width)
        self._gpu_resources = gpu_resources
        self._gpu_index = None

    def _hold(self, rows: np.ndarray) -> None:
        # Both kinds of index store plain numbers, so the rows go in as they are, without FAISS's encoder.
        self._index.add_sa_codes(np.ascontiguousarray(rows, dtype=self.dtype).view(np.uint8))
        self._gpu_index = None

    def rows(self, selection: slice | np.ndarray) -> np.ndarray:
        codes = faiss.rev_swig_ptr(self._index.codes.data(), self._index.ntotal * self._index.code_size)
        codes = codes.reshape(self._index.ntotal, self._index.code_size)[selection]
        return self._index.sa_decode(codes) if self.dtype == np.float16 else codes.view(np.float32)

    def compares_all(self, allowed):
        return True

    def candidates(self, queries, num_candidates, allowed, *, scan):
        # A GPU index selects at most so many, and knows no selectors.
        if self._gpu_resources is not None and allowed is None and num_candidates <= _GPU_MAX_CANDIDATES:
            return self._on_gpu().search(queries, num_candidates)
        # FAISS scans float16 without BLAS: from some 50 queries on, decoding the rows and multiplying is faster.
        if self.dtype == np.float16 and allowed is None and len(queries) >= 48:
            return self.scan(queries, num_candidates, None)
        if allowed is None:
            return self._index.search(queries, num_candidates)
        bits = np.packbits(allowed, bitorder="little")  # FAISS reads them where they lie
        parameters = faiss.SearchParameters(sel=faiss.IDSelectorBitmap(bits))
        return self._index.search(queries, num_candidates, params=parameters)

    def _on_gpu(self):
        if self._gpu_index is None:
            options = faiss.GpuClonerOptions()
            options.useFloat16 = self.dtype == np.float16
            self._gpu_index = faiss.index_cpu_to_gpu(self._gpu_resources, 0, self._index, options)
        return self._gpu_index


class _FactoryBucket(_Bucket):
    """Rows as they were given, with an approximate FAISS index over them, built when first searched."""

    def __init__(self, width: int, dtype: np.dtype, index_type: str) -> None:
        super().__init__(width, dtype)
        try:
            self._index = faiss.index_factory(width, index_type, faiss.METRIC_INNER_PRODUCT)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[0].rpartition("Error: ")[2]
            raise UsageError(
                f"expected a FAISS factory string for vectors of {width} numbers, got {index_type!r} ({reason}); "
                'try "Flat" or "HNSW32"'
            ) from error
        if isinstance(self._index, faiss.IndexIDMap):
            raise UsageError(
                f"expected a FAISS factory string without IDMap, got {index_type!r}; ids are kept here: leave it out"
            )
        ivf = faiss.try_extract_index_ivf(self._index)
        self._num_centroids = max(256, ivf.nlist) if ivf else 256  # a product quantiser has 256
        if ivf:
            ivf.nprobe = -(-ivf.nlist // 8)  # FAISS's own default looks into a single list and misses most neighbours
        self._row_blocks: list[np.ndarray] = []

    def _hold(self, rows: np.ndarray) -> None:
        self._row_blocks.append(rows.astype(self.dtype, copy=False))

    def rows(self, selection: slice | np.ndarray) -> np.ndarray:
        positions = np.arange(selection.start, selection.stop) if isinstance(selection, slice) else selection
        rows = np.empty((len(positions), self.width), dtype=np.float32)
        stops = np.cumsum([len(block) for block in self._row_blocks])
        block_of_row = np.searchsorted(stops, positions, side="right")
        for number in np.unique(block_of_row):
            (mine,) = np.nonzero(block_of_row == number)
            block = self._row_blocks[number]
            rows[mine] = block[positions[mine] - (stops[number] - len(block))]
        return rows

    def compares_all(self, allowed):
        # Not every index type honours a selector (HNSW may ignore it), so what is allowed is compared row by row.
        # FAISS wants 39 rows a centroid to train on.
        return allowed is not None or self.num_rows < max(_SCAN_BELOW, 39 * self._num_centroids)

    def candidates(self, queries, num_candidates, allowed, *, scan):
        if scan or self.compares_all(allowed):
            return self.scan(queries, num_candidates, allowed)
        self._catch_up()
        return self._index.search(queries, num_candidates)

    def _catch_up(self) -> None:
        if not self._index.is_trained:
            num_samples = min(self.num_rows, 256 * self._num_centroids)
            # Spread over all rows: a corpus often comes sorted by kind.
            self._index.train(self.rows(np.linspace(0, self.num_rows - 1, num_samples).astype(np.int64)))
        while self._index.ntotal < self.num_rows:
            start = self._index.ntotal
            self._index.add(self.rows(slice(start, min(start + _BLOCK, self.num_rows))))


@contextmanager
def _tuned(num_queries: int):
    """FAISS set to scan `num_queries` in the faster of its ways, as measured; its own settings come back afterwards.

    Its default waits with BLAS until num_queries × d ≥ 128,000, ten times too long on few cores; what decides is the
    number of queries a thread has. With fewer queries than threads it splits the rows over the threads and uses BLAS
    regardless, which is slower than one plain scan a query until there are more than four threads.
    """
    threads, threshold = faiss.omp_get_max_threads(), faiss.cvar.distance_compute_blas_threshold
    # 1 and the largest int mean always and never, in FAISS before 1.14.2 too, where the unit was queries alone.
    faiss.cvar.distance_compute_blas_threshold = 1 if num_queries >= 4 * threads else 2**31 - 1
    if num_queries < threads <= 4:
        faiss.omp_set_num_threads(num_queries)
    try:
        yield
    finally:
        faiss.cvar.distance_compute_blas_threshold = threshold
        faiss.omp_set_num_threads(threads)


def _search_ties(queries, floors, num_hits, parts):
    """As `BucketedIndex._search`, from every row that scores at least a query's floor, however many those are."""
    pairs = []
    for owner, (bucket, mask) in enumerate(parts):
        for query_of_pair, positions in bucket.at_least(queries[:, : bucket.width], floors, mask):
            pairs.append((query_of_pair, np.full(len(positions), owner), positions))
    query_of_pair, owners, positions = (np.concatenate(arrays) for arrays in zip(*pairs, strict=True))
    scores, ids, _ = _score(queries, parts, query_of_pair, owners, positions)
    order = np.lexsort((ids, -scores, query_of_pair))
    starts = np.searchsorted(query_of_pair[order], np.arange(len(queries)))
    order = order[starts[:, None] + np.arange(num_hits)]
    return scores[order], ids[order]


def _score(queries, parts, query_of_pair, owners, positions):
    """Scores and ids of (query, row) pairs, and the length of the longest row, 1 or more.

    A position of -1 is no row: it scores -inf and has `_NO_ID`.
    """
    scores = np.full(len(positions), -np.inf, dtype=np.float32)
    ids = np.full(len(positions), _NO_ID)
    longest = 1.0
    for owner, (bucket, _) in enumerate(parts):
        (mine,) = np.nonzero((owners == owner) & (positions >= 0))
        ids[mine] = bucket.ids[positions[mine]]
        for start in range(0, len(mine), _PAIRS):
            some = mine[start : start + _PAIRS]
            rows = bucket.rows(positions[some]).astype(np.float64)
            scores[some] = np.vecdot(rows, queries[query_of_pair[some], : bucket.width])
            longest = max(longest, float(np.sqrt(np.vecdot(rows, rows).max())))
    return scores, ids, longest


def _best(num: int, scores: np.ndarray, *others: np.ndarray) -> tuple[np.ndarray, ...]:
    """The columns of the `num` highest scores of each row, in no order; all columns where there are no more."""
    if scores.shape[1] <= num:
        return (scores, *others)
    columns = np.argpartition(scores, -num, axis=1)[:, -num:]
    return tuple(np.take_along_axis(array, columns, axis=1) for array in (scores, *others))


def _checked_floats(name: str, array: np.ndarray, width: int) -> np.ndarray:
    array = np.asarray(array)
    if array.ndim != 2 or array.shape[1] != width:
        raise UsageError(
            f"expected {name} of shape (N, {width}), got {array.shape}; pass one row of {width} numbers each"
        )
    if not np.issubdtype(array.dtype, np.floating):
        raise UsageError(f"expected {name} of float32, got {array.dtype}; convert them first")
    if array.size and not _is_finite(array):
        raise UsageError(f"expected {name} of finite numbers, got NaN or infinity; look at the pictures they came from")
    return array


def _is_finite(array: np.ndarray) -> bool:
    if array.dtype != np.float16:
        return bool(np.isfinite(array).all())
    # Inf and NaN have the highest bit patterns of their sign; comparing those is 25 times faster than np.isfinite here.
    bits = array.view(np.uint16)
    return bool(bits.view(np.int16).max() < 0x7C00 and bits.max() < 0xFC00)


def _checked_device(device: str, index_type: str) -> str:
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"expected device 'auto', 'cpu' or 'cuda', got {device!r}; choose one of the three")
    if device == "cpu" or (device == "auto" and index_type != "Flat"):
        return "cpu"
    if index_type != "Flat":
        raise UsageError(f"expected index type 'Flat' on device 'cuda', got {index_type!r}; use device 'cpu' for it")
    has_gpu = hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus() > 0
    if device == "cuda" and not has_gpu:
        raise UsageError(
            "expected a FAISS with GPU support and a GPU for device 'cuda', found none; "
            "install faiss-gpu in place of faiss-cpu (never both), or use device 'cpu'"
        )
    return "cuda" if has_gpu else "cpu"
