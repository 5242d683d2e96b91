"""Vectors of different lengths in one search: a bucket per width, asked with the query's first numbers, and merged."""

from collections.abc import Sequence

import faiss
import numpy as np

from indexer.storage.manifest import DTYPES, WIDTHS
from indexer.vectors import merging
from indexer.vectors.approximate_index import ApproximateIndex
from indexer.vectors.factory_bucket import FactoryBucket
from indexer.vectors.faiss_settings import device_for
from indexer.vectors.flat_bucket import FlatBucket
from indexer.vectors.merging import Part
from retrieval.errors import UsageError


def width_of(dims: np.ndarray, widths: Sequence[int] = WIDTHS) -> np.ndarray:
    """The width of the bucket that holds each dim: the smallest one that is large enough.

    `dims` (N,) integers in [1, widths[-1]]; returns (N,) int64. Raises `UsageError` for a dim outside that range.
    """
    dims = np.asarray(dims)
    if dims.ndim != 1 or not _holds_integers(dims):
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
    """Vectors under ids, searched by inner product.

    With index type "Flat" ("auto" is the same) the result is exactly that of one search over the zero-padded vectors:
    the inner product with the whole query, order by score descending, then id ascending, also where a tie crosses the
    cut; but for rows that are added with an index over them (`add_rows`). Any other type is a FAISS factory string,
    built for each bucket: its candidates are approximate, their scores and order are not. Of a small bucket (10,000
    rows, more where the type needs them for training) and of one restricted by `allowed`, every row is compared.

    `dtype` "float16" halves the memory; scores are then those of the rounded vectors. `device` "cuda" scans on the
    first GPU and needs a FAISS that can, "auto" uses one where there is one. A search may run in any thread; `add` must
    not run beside it. Raises `UsageError`.
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
        if dtype not in DTYPES:
            raise UsageError(f"expected dtype 'float16' or 'float32', got {dtype!r}; choose one of the two")
        self.index_type = "Flat" if index_type == "auto" else index_type
        self.device = device_for(device, self.index_type)
        if self.index_type == "Flat":
            gpu_resources = faiss.StandardGpuResources() if self.device == "cuda" else None
            self._buckets = [FlatBucket(width, np.dtype(dtype), gpu_resources) for width in self.widths]
        else:
            self._buckets = [FactoryBucket(width, np.dtype(dtype), self.index_type) for width in self.widths]

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

    def add_rows(
        self,
        ids: np.ndarray,
        rows: np.ndarray,
        width: int,
        *,
        live: np.ndarray | None = None,
        trusted: bool = False,
        approximate: ApproximateIndex | None = None,
    ) -> None:
        """Add rows that come already cut to a bucket's width, such as a memory-mapped file of them.

        `ids` (N,) as in `add`; `rows` (N, width) float32 or float16: a megabyte or more of the dtype of the index is
        not copied, but read where it lies at each search. `live` optional (N,) bool, False for rows to pass over.
        `trusted` rows are not looked at now, which would read all of a mapped file: a search that meets NaN or infinity
        there raises `DamagedError`. `approximate` is an index over exactly these rows, for searches that may miss
        some; an index of type "Flat" alone takes one. Raises `UsageError`.
        """
        if width not in self.widths:
            raise UsageError(
                f"expected a width of {self.widths}, got {width}; open the index with the widths it was made with"
            )
        rows = _checked_floats("rows", rows, width, looks=not trusted)
        if live is not None and self.index_type != "Flat":  # a FAISS index would find what it is to pass over
            ids, rows, live = np.asarray(ids)[live], rows[live], None
        new_ids = self._checked_new_ids(ids, len(rows))
        if live is not None:
            new_ids = np.where(live, new_ids, -1)
        if len(new_ids):
            given = {} if approximate is None else {"approximate": approximate}
            self._buckets[self.widths.index(width)].add(new_ids, rows, **given)

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
        parts = self._parts(allowed)
        num_hits = min(int(top_k), sum(part.num_rows for part in parts))
        scores = np.empty((len(queries), num_hits), dtype=np.float32)
        ids = np.empty((len(queries), num_hits), dtype=np.int64)
        if num_hits:
            num_queries_at_once = max(1, min(1024, 2**22 // num_hits))
            for start in range(0, len(queries), num_queries_at_once):
                some = slice(start, start + num_queries_at_once)
                scores[some], ids[some] = merging.search(parts, queries[some], num_hits)
        return scores, ids

    def vectors(self, ids: np.ndarray) -> np.ndarray:
        """The stored vectors of `ids` (K,), (K, widths[-1]) float32, zero beyond the width of their bucket.

        Raises `UsageError` for an id that the index does not hold.
        """
        ids = np.asarray(ids, dtype=np.int64)
        vectors = np.zeros((len(ids), self.widths[-1]), np.float32)
        num_found = 0
        for bucket in self._buckets:
            places, positions = bucket.find(ids)
            if len(places):
                vectors[places, : bucket.width] = bucket.rows(positions)
            num_found += len(places)
        if num_found < len(ids):
            raise UsageError(f"expected ids that the index holds, got {len(ids) - num_found} others of {len(ids)}")
        return vectors

    def _parts(self, allowed: np.ndarray | None) -> list[Part]:
        """The buckets that hold anything to look at."""
        if allowed is None:
            parts = [Part(bucket, None, bucket.num_rows) for bucket in self._buckets]
        else:
            allowed = np.asarray(allowed)
            if allowed.ndim != 1 or not _holds_integers(allowed):
                raise UsageError(
                    f"expected allowed as (M,) integer ids, got shape {allowed.shape} of {allowed.dtype}; pass ids"
                )
            allowed = allowed.astype(np.int64)
            masks = [np.isin(bucket.ids, allowed[allowed >= 0]) for bucket in self._buckets]
            parts = [Part(bucket, mask, int(mask.sum())) for bucket, mask in zip(self._buckets, masks, strict=True)]
        return [part for part in parts if part.num_rows]

    def _checked_new_ids(self, ids, num_rows):
        ids = np.asarray(ids)
        if ids.shape != (num_rows,) or not _holds_integers(ids):
            raise UsageError(
                f"expected {num_rows} integer ids, got shape {ids.shape} of {ids.dtype}; pass one id a vector"
            )
        ids = ids.astype(np.int64)
        if not len(ids):
            return ids
        if ids.min() < 0:
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


def _checked_floats(name: str, array: np.ndarray, width: int, *, looks: bool = True) -> np.ndarray:
    array = np.asarray(array)
    if array.ndim != 2 or array.shape[1] != width:
        raise UsageError(
            f"expected {name} of shape (N, {width}), got {array.shape}; pass one row of {width} numbers each"
        )
    if not np.issubdtype(array.dtype, np.floating):
        raise UsageError(f"expected {name} of float32, got {array.dtype}; convert them first")
    if looks and array.size and not _is_finite(array):
        raise UsageError(f"expected {name} of finite numbers, got NaN or infinity; look at the pictures they came from")
    return array


def _holds_integers(array: np.ndarray) -> bool:
    return array.size == 0 or np.issubdtype(array.dtype, np.integer)  # an empty list comes as floats


def _is_finite(array: np.ndarray) -> bool:
    if array.dtype != np.float16:
        return bool(np.isfinite(array).all())
    # Inf and NaN have the highest bit patterns of their sign; comparing those is 25 times faster than np.isfinite here.
    bits = array.view(np.uint16)
    return bool(bits.view(np.int16).max() < 0x7C00 and bits.max() < 0xFC00)
