"""Segments: immutable folders of images that were added together; and tombstones, the rows that no longer count."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from indexer import catalog
from indexer.names import num_duplicates
from indexer.storage import arrays, catalog_file, durable, token_files
from indexer.storage.catalog_file import CatalogFile
from indexer.storage.manifest import Manifest
from indexer.storage.records import FileRecord, Rows, SegmentRecord, TombstoneRecord
from retrieval.errors import DamagedError

if TYPE_CHECKING:
    from retrieval.tokens import Tokens  # imports torch, which reading and checking do without

SEGMENTS = "segments"
DELETED = "deleted"
CATALOG = "catalog.parquet"
ROW_GROUP = 2048
"""Rows of a catalog that are decoded together where one of them is asked for."""

_SMALL_CATALOG = 512  # rows


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a row lies: its segment and its number there; with its dim and bucket, to be counted out when it dies."""

    segment: str
    row: int
    dim: int
    bucket: int


def vectors_name(width: int) -> str:
    return f"vectors-{width:03d}.npy"


def write(
    folder: Path,
    segment_id: str,
    rows: Sequence[catalog.Row],
    vectors: np.ndarray,
    dtype: str,
    *,
    tokens: "Tokens | None" = None,
    token_bytes: int = 0,
) -> SegmentRecord:
    """Write a new segment into the index `folder` and sync it.

    `vectors` (N, 512): a row's numbers beyond its bucket are dropped (they are zero). `dtype` as in the manifest.
    `tokens` of the N rows, of at most `token_bytes` each; with None the segment has no tokens.
    """
    home = folder / SEGMENTS / segment_id
    buckets = np.array([row.bucket for row in rows])
    with durable.new_folder(home):
        write_catalog(home, catalog.table_of(rows))
        for width in np.unique(buckets):
            held = vectors[buckets == width, :width].astype(dtype)
            arrays.write_new(home / vectors_name(width), held)
        if tokens is not None:
            token_files.write(home, tokens)
        durable.sync_folder(home)
        durable.sync_folder(home.parent)
        durable.sync_folder(folder)
    files = {path.name: FileRecord.of(path) for path in sorted(home.iterdir())}
    counted = _count((row.bucket, row.dim) for row in rows)
    return SegmentRecord(id=segment_id, rows=counted, files=files, token_bytes=0 if tokens is None else token_bytes)


def write_catalog(home: Path, table: pa.Table) -> None:
    """Write the catalog of a segment into its folder, fast to open and to read a few rows of, and sync it."""
    compression = compression_for(table.num_rows)
    durable.write_new(
        home / CATALOG,
        lambda file: pq.write_table(table, file, compression=compression, row_group_size=ROW_GROUP),
    )


def compression_for(num_rows: int) -> str:
    """How to compress a catalog: what that saves of a small file takes ten times longer to read than the file."""
    return "zstd" if num_rows > _SMALL_CATALOG else "none"


def write_tombstones(folder: Path, tombstone_id: str, places: Sequence[Place]) -> TombstoneRecord:
    """Write a new tombstone file into the index `folder` and sync it."""
    home = folder / DELETED
    home.mkdir(exist_ok=True)
    table = pa.table(
        {
            "segment": pa.array([place.segment for place in places], pa.string()),
            "row": pa.array([place.row for place in places], pa.int64()),
        }
    )
    path = home / f"{tombstone_id}.parquet"
    durable.write_new(path, lambda file: pq.write_table(table, file, compression="zstd"))
    durable.sync_folder(home)
    durable.sync_folder(folder)
    return TombstoneRecord(
        id=tombstone_id, rows=_count((place.bucket, place.dim) for place in places), file=FileRecord.of(path)
    )


class Segment:
    """A segment as it is read: its catalog, its vectors by width (memory-mapped), and which of its rows are live."""

    def __init__(self, folder: Path, record: SegmentRecord, dead_rows: Sequence[int] = ()):
        self.record = record
        self.home = folder / SEGMENTS / record.id
        self._dead_rows = np.asarray(dead_rows, dtype=np.int64)

    @cached_property
    def catalog(self) -> CatalogFile:
        """The catalog's file, which stays readable from when this is first asked for; raises `DamagedError`."""
        return CatalogFile(self.home / CATALOG, self.record.rows.num)

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The catalog, one row an image; raises `DamagedError`."""
        return self.catalog.table(columns)

    def schema(self) -> pa.Schema:
        """The columns of the catalog; raises `DamagedError`."""
        return self.catalog.schema

    def live(self, table: pa.Table | None = None) -> np.ndarray:
        """Which rows of the catalog count, (N,) bool; raises `DamagedError`."""
        live = np.ones(self.catalog.num_rows, dtype=bool)
        if len(self._dead_rows) and not 0 <= self._dead_rows.min() <= self._dead_rows.max() < len(live):
            raise DamagedError(f"expected tombstones of {self.home} to name its {len(live)} rows, got others")
        live[self._dead_rows] = False
        return live

    def vectors(self, width: int) -> np.ndarray:
        """(rows of that bucket, width) in the catalog's order; raises `DamagedError`."""
        return arrays.read(self.home / vectors_name(width), "vectors")

    def known_vectors(self, width: int, dtype: str) -> np.ndarray:
        """As `vectors`, which must be as many as the manifest says, of this dtype; no file is held open for them."""
        shape = (self.record.rows.buckets[width], width)
        return arrays.read_known(self.home / vectors_name(width), "vectors", shape, dtype)


def read(folder: Path, manifest: Manifest) -> list[Segment]:
    """The segments of an index, in the manifest's order, with their deleted rows marked; raises `DamagedError`."""
    dead_rows: dict[str, list[int]] = {record.id: [] for record in manifest.segments}
    for record in manifest.tombstones:
        for segment, row in read_tombstones(folder, record):
            if segment not in dead_rows:
                path = folder / DELETED / f"{record.id}.parquet"
                raise DamagedError(f"expected rows of known segments in {path}, got one of {segment!r}")
            dead_rows[segment].append(row)
    return [Segment(folder, record, dead_rows[record.id]) for record in manifest.segments]


def read_tombstones(folder: Path, record: TombstoneRecord) -> list[tuple[str, int]]:
    """Which rows no longer count: ids of segments and numbers there; raises `DamagedError`."""
    table = catalog_file.read_table(folder / DELETED / f"{record.id}.parquet", ["segment", "row"])
    return [*zip(table["segment"].to_pylist(), table["row"].to_pylist(), strict=True)]


def verify(folder: Path, manifest: Manifest) -> Iterator[str]:
    """Say, file by file, what is not as it was written; yields nothing where all is sound."""
    changed = {}
    for name, file in manifest.files():
        problem = file.problem(folder / name)
        if problem is not None:
            changed[name] = problem
            yield f"{name}: {problem}"
    if not changed:
        yield from _contradictions(folder, manifest)


def _contradictions(folder: Path, manifest: Manifest) -> Iterator[str]:
    """Every file is as it was written: do they also agree with each other and with the manifest?"""
    ids: Counter[str] = Counter()
    sha256s: list[str] = []
    try:
        for segment in read(folder, manifest):
            table = segment.table(["id", "sha256", "bucket", "dim"])
            yield from _miscounted(segment, table, manifest.dtype)
            live = pa.array(segment.live(table))
            ids.update(table["id"].filter(live).to_pylist())
            sha256s += table["sha256"].filter(live).to_pylist()
    except DamagedError as error:
        yield str(error)
    for image_id, num in ids.items():
        if num > 1:
            yield f"{SEGMENTS}: expected every id once, got {image_id!r} {num} times"
    # 0 where nobody has counted them yet, in an index that was made before they were.
    if manifest.num_duplicates not in (0, num_duplicates(sha256s)):
        expected, got = manifest.num_duplicates, num_duplicates(sha256s)
        yield f"{SEGMENTS}: expected {expected} further names of pictures, got {got}"


def _miscounted(segment: Segment, table: pa.Table, dtype: str) -> Iterator[str]:
    home, rows = f"{SEGMENTS}/{segment.record.id}", segment.record.rows
    counted = _count(zip(table["bucket"].to_pylist(), table["dim"].to_pylist(), strict=True))
    if counted != rows:
        yield f"{home}/{CATALOG}: expected {rows}, got {counted}"
    for width, num in rows.buckets.items():
        vectors = segment.vectors(width)
        if vectors.shape != (num, width) or vectors.dtype != dtype:
            expected, got = f"({num}, {width}) {dtype}", f"{vectors.shape} {vectors.dtype}"
            yield f"{home}/{vectors_name(width)}: expected {expected}, got {got}"
    if problem := token_files.problem(segment.home, segment.record):
        yield f"{home}: {problem}"


def _count(buckets_and_dims: Iterator[tuple[int, int]]) -> Rows:
    pairs = list(buckets_and_dims)
    buckets = Counter(bucket for bucket, _ in pairs)
    return Rows(buckets=dict(sorted(buckets.items())), sum_dims=sum(dim for _, dim in pairs))
