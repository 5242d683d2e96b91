"""Which buckets of a segment get an approximate index, of which type; and building it, measured against a plain scan.

What `auto` does was measured (tests/benchmarks/index_types.py, data/benchmarks/index-types.json). To find 95
of 100 of the ten nearest of 300,000 rows of width 128 takes, on one core, in milliseconds a query, bytes a row beyond
the rows themselves, which are stored anyway, and seconds to build:

    plain scan                                     8.8 ms
    PQ64x4fs, 200 candidates compared exactly      0.8 ms     32 bytes       3 s
    IVF2048,PQ64x4fs, the same, 64 lists           0.3 ms     47 bytes      58 s
    HNSW16                                         0.15 ms   144 bytes      21 s
    IVF2048,SQfp16, 32 lists                       0.4 ms    268 bytes      57 s

And of 1,100,000 rows of width 64, 97 of 100 or more, 1664 candidates compared exactly:

    PQ32x4fs                                       2.3 ms     16 bytes       4 s
    IVF4096,PQ32x4fs, 256 lists                    1.5 ms     26 bytes      35 s

What is left of a query outside of this is some ms, so it is the building and the bytes that count: 4-bit product codes,
scanned; with an IVF over them where a million would take long. A small file also is one that can be hashed before FAISS
reads it, which is what keeps damage from crashing the process.
"""

import logging
from dataclasses import replace
from itertools import chain, count
from pathlib import Path

import faiss
import numpy as np

from indexer.segments import Segment
from indexer.storage import durable
from indexer.storage.records import Approximation, FileRecord, SegmentRecord
from indexer.vectors import faiss_factory
from indexer.vectors.approximate_index import WANTED, ApproximateIndex
from indexer.vectors.flat_bucket import FlatBucket
from indexer.vectors.row_pieces import RowPieces

SCANNED_NUMBERS = 1 << 24
"""Numbers (rows × width) up to which `auto` scans a bucket: some 3 ms."""

SCANNED_CODES = 1 << 20
"""Rows up to which it scans their codes, rather than to look them up in an IVF: some 3 ms again, at width 128."""

_SCANNED_ROWS = 10_000  # rows that are scanned whatever type was asked for: an index over them would not pay
_RECALL = 0.97  # what the cheapest setting is to reach, on stored rows as queries; those of users lie a little further
_LEAST_RECALL = 0.95  # below which `auto` scans
_NUM_QUERIES = 200
_DEPTHS = (1, 4, 8, 16, 32, 64)  # candidates compared exactly for each wanted one; 1 does where they are stored whole

_log = logging.getLogger(__name__)


def type_for(num_rows: int, width: int, index_type: str) -> str | None:
    """The FAISS factory string of the index over a segment's rows of one width; None where they are to be scanned."""
    if index_type == "auto":
        if num_rows * width <= SCANNED_NUMBERS:
            return None
        codes = f"PQ{width // 2}x4fs" if width % 2 == 0 else "SQ4"
        return codes if num_rows <= SCANNED_CODES else f"IVF{1 << int(np.log2(4 * np.sqrt(num_rows)))},{codes}"
    if index_type == "Flat":
        return None
    centroids = faiss_factory.num_centroids(faiss_factory.empty_index(width, index_type))
    return None if num_rows < max(_SCANNED_ROWS, 39 * centroids) else index_type


def is_wanted(record: SegmentRecord, index_type: str) -> bool:
    """Whether a segment lacks an index that it is to have, and that nobody has tried yet."""
    types = {width: type_for(num, width, index_type) for width, num in record.rows.buckets.items()}
    has = {width: known.index_type for width, known in record.approximations.items()}
    return any(kind is not None and has.get(width) not in (kind, "Flat") for width, kind in types.items())


def build(folder: Path, record: SegmentRecord, *, dtype: str, index_type: str) -> SegmentRecord:
    """Give a finished segment the approximate indices that it is to have, beside the files that it has.

    `dtype` and `index_type` as in the manifest. Returns the record that names their files, which are synced, for a
    manifest to come. Each is measured: where `auto` would find less than 95 of 100 of the ten nearest rows, the bucket
    is scanned, and a warning logged.
    """
    segment = Segment(folder, record)
    files, known = {}, {}
    for width, num_rows in record.rows.buckets.items():
        kind = type_for(num_rows, width, index_type)
        if kind is None:
            continue
        bucket, pieces = FlatBucket(width, np.dtype(dtype), None), RowPieces(width, np.dtype(dtype))
        rows = segment.known_vectors(width, dtype)
        bucket.add(np.arange(num_rows), rows)
        pieces.append(rows)
        index = faiss_factory.empty_index(width, kind)
        faiss_factory.fill(index, pieces)
        approximation = _tuned(index, kind, bucket)
        if approximation.recall_at_10 < _LEAST_RECALL:
            what = f"{kind} over the {num_rows} rows of width {width} in segment {record.id}"
            _log.warning("%s finds %.3f of the ten nearest", what, approximation.recall_at_10)
            if index_type == "auto":
                known[width] = Approximation(index_type="Flat", settings={}, depth=1, recall_at_10=1.0)
                continue
        known[width] = approximation
        path = _free_path(segment.home, width)
        durable.write_new(
            path, lambda file, index=index: faiss.write_index(index, faiss.PyCallbackIOWriter(file.write))
        )
        files[path.name] = FileRecord.of(path)
    if known:
        durable.sync_folder(segment.home)
    earlier = {record.index_name(width) for width in record.rows.buckets}
    files |= {name: file for name, file in record.files.items() if name not in earlier}
    return replace(record, files=dict(sorted(files.items())), approximations=known)


def _tuned(index: faiss.Index, kind: str, bucket: FlatBucket) -> Approximation:
    """The cheapest way to search an index that reaches the recall, or else the best of those tried."""
    chosen = np.linspace(0, bucket.num_rows - 1, _NUM_QUERIES).astype(np.int64)
    queries = bucket.rows(chosen)
    _, nearest = bucket.scan(queries, 11, None)
    expected = [np.setdiff1d(found, own)[:10] for found, own in zip(nearest, chosen, strict=True)]
    best = Approximation(index_type=kind, settings={}, depth=1, recall_at_10=0.0)
    for settings in faiss_factory.efforts(index):
        for depth in _DEPTHS:
            tried = replace(best, settings=settings, depth=depth)
            _, found = ApproximateIndex(lambda: index, tried).candidates(queries, WANTED, bucket.rows)
            recall = np.mean([np.isin(rows, some).mean() for rows, some in zip(expected, found, strict=True)])
            tried = replace(tried, recall_at_10=round(float(recall), 4))
            if tried.recall_at_10 > best.recall_at_10:
                best = tried
            if best.recall_at_10 >= _RECALL:
                return best
    return best


def _free_path(home: Path, width: int) -> Path:
    """For the index over the rows of a width: the first bears no number, as an earlier state may need its own."""
    names = chain([f"bucket-{width:03d}.faiss"], (f"bucket-{width:03d}-{number}.faiss" for number in count(2)))
    return next(path for path in map(home.joinpath, names) if not path.exists())
