"""What a search looks through: all vectors of an index, and the catalog whose rows they are numbered by."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from indexer import segments
from indexer.buckets import BucketedIndex
from indexer.catalog import Catalog
from indexer.names import Names
from indexer.segments import Segment
from indexer.storage import arrays
from indexer.storage.manifest import Manifest
from indexer.stored_catalog import StoredCatalog
from indexer.tokens import StoredTokens
from indexer.vectors import approximate_index
from indexer.vectors.approximate_index import ApproximateIndex
from retrieval.errors import DamagedError, UsageError


class Gallery(NamedTuple):
    """The catalog of an index, its live vectors under the numbers of their rows, and its tokens, if it has some.

    Of a picture that has several `names` the buckets hold the first row alone.
    """

    catalog: Catalog
    buckets: BucketedIndex
    tokens: StoredTokens | None
    names: Names = Names()

    def find(self, ids: Iterable[str]) -> dict[str, int]:
        """The numbers of the rows that a search looks at for some images, by id; ids that are none are left out."""
        found = self.catalog.find(ids)
        firsts = self.names.firsts(np.fromiter(found.values(), np.int64, len(found)))
        return dict(zip(found, firsts.tolist(), strict=True))

    def searched_rows(self) -> np.ndarray:
        """The numbers (N,) int64, rising, of the rows that a search looks at."""
        return np.setdiff1d(np.flatnonzero(self.catalog.live), self.names.further, assume_unique=True)

    def vectors(self, numbers: np.ndarray) -> np.ndarray:
        """The stored vectors of the live rows `numbers` (..., K), (..., K, D) float32, zero beyond their buckets."""
        vectors = self.buckets.vectors(self.names.firsts(np.ravel(numbers)))
        return vectors.reshape(*np.shape(numbers), vectors.shape[-1])


def read(path: Path, state: Manifest, device: str, catalog: StoredCatalog | None = None) -> Gallery:
    """The index in the folder `path` as it was at `state`; raises `DamagedError`. Its `catalog` may be open already.

    Large files are mapped, small ones put together, so that neither many images nor many segments make this slow; what
    was read here stays readable when the files are swept.
    """
    # Only a plain scan runs on a GPU: where the model is to run says nothing of the other types.
    where = device if state.index_type in ("auto", "Flat") else "cpu"
    # What is approximate was built into the segments: the rest is scanned.
    buckets = BucketedIndex(state.widths, dtype=state.dtype, device=where)
    rows_of_all = StoredCatalog(segments.read(path, state)) if catalog is None else catalog
    parts = rows_of_all.segments
    names = rows_of_all.names() if state.num_duplicates else Names()
    searched = rows_of_all.live.copy()
    searched[names.further] = False
    small: dict[int, list[_Rows]] = {}
    for rows in _rows_of(parts, searched, state.dtype):
        if rows.approximate is None and rows.vectors.nbytes < arrays.MAPPED:
            small.setdefault(rows.width, []).append(rows)
        else:
            _add(buckets, [rows], trusted=True)
    for several in small.values():
        _add(buckets, several, trusted=False)
    tokens = StoredTokens(parts) if any(segment.record.token_bytes for segment in parts) else None
    return Gallery(rows_of_all, buckets, tokens, names)


class _Rows(NamedTuple):
    """The rows of one width in one segment or several: their numbers (N,), which count (N,), vectors (N, width).

    And an approximate index over them, where their segment has one.
    """

    width: int
    numbers: np.ndarray
    live: np.ndarray
    vectors: np.ndarray
    approximate: ApproximateIndex | None
    home: Path


def _rows_of(parts: Sequence[Segment], searched: np.ndarray, dtype: str) -> Iterator[_Rows]:
    first = 0
    for segment in parts:
        bucket_of_row = segment.table(["bucket"])["bucket"].to_numpy()
        live = searched[first : first + len(bucket_of_row)]
        for width, num in segment.record.rows.buckets.items():
            (rows,) = np.nonzero(bucket_of_row == width)
            if len(rows) != num:
                raise DamagedError(
                    f"expected {num} rows of width {width} in the catalog of {segment.home}, got {len(rows)}; "
                    "`verify` lists what is damaged"
                )
            vectors, approximate = segment.known_vectors(width, dtype), _approximate(segment, width, num)
            yield _Rows(width, first + rows, live[rows], vectors, approximate, segment.home)
        first += len(live)


def _approximate(segment: Segment, width: int, num_rows: int) -> ApproximateIndex | None:
    approximation = segment.record.approximations.get(width)
    name = None if approximation is None else segment.record.index_name(width)
    if approximation is None or name is None:
        return None
    file = segment.record.files[name]
    return approximate_index.read(segment.home / name, file, approximation, num_rows=num_rows, width=width)


def _add(buckets: BucketedIndex, several: Sequence[_Rows], *, trusted: bool) -> None:
    """Add rows of one width, those of several segments at once."""
    width, numbers, live, vectors, approximate, _ = several[0]
    if len(several) > 1:
        numbers, live, vectors = (np.concatenate(arrays) for arrays in list(zip(*several, strict=True))[1:4])
    try:
        if trusted:
            alive = None if live.all() else live
            buckets.add_rows(numbers, vectors, width, live=alive, trusted=True, approximate=approximate)
        elif live.all():
            buckets.add_rows(numbers, vectors, width)
        else:
            buckets.add_rows(numbers[live], vectors[live], width)
    except UsageError as error:
        unsound = [rows.home for rows in several if not np.isfinite(rows.vectors).all()]
        damaged = f"vectors of width {width} in {[*unsound, several[0].home][0]}"
        raise DamagedError(f"expected sound {damaged}, got: {error}; `verify` lists what is damaged") from None
