"""Compacting an index: all live rows into one segment, in their order, and then what nothing needs any more swept."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from indexer import catalog, feedback, segments
from indexer.changes import sweeping
from indexer.changes.row_blocks import live_blocks
from indexer.changes.segment_writer import SegmentWriter
from indexer.names import num_duplicates
from indexer.segments import Segment
from indexer.storage import draft, manifest
from indexer.storage.durable import writing
from indexer.storage.manifest import Manifest
from indexer.storage.records import SegmentRecord, is_count
from indexer.vectors import approximating
from retrieval.errors import DamagedError, UsageError


@dataclass(frozen=True, kw_only=True)
class CompactReport:
    """What compacting did: segments and deleted rows before, segments after, the bytes on disk, the snapshots kept."""

    images: int
    segments_before: int
    segments_after: int
    deleted_rows: int
    bytes_before: int
    bytes_after: int
    snapshots: int


def compact(folder: Path, *, keep_snapshots: int) -> tuple[Manifest, CompactReport]:
    """Publish a state of one segment at most, and sweep; the caller holds the lock. See `Index.compact`."""
    if not is_count(keep_snapshots):
        raise UsageError(f"expected keep_snapshots of 0 or more, got {keep_snapshots!r}")
    before = manifest.read(folder)
    bytes_before = sweeping.num_bytes(folder)
    # What is copied is checked, or damage would be passed on under a new checksum.
    for problem in segments.verify(folder, before):
        raise DamagedError(f"expected a sound index at {folder} to compact, got {problem}; `verify` lists all damage")
    with writing(folder):
        state = before
        if len(before.segments) > 1 or before.tombstones:
            parts, duplicates = merged(folder, before) if before.num_images else ((), 0)
            state = before.following("compact", segments=parts, tombstones=(), num_duplicates=duplicates)
            manifest.publish(folder, state)
        elif any(approximating.is_wanted(segment, before.index_type) for segment in before.segments):
            state = before.following("compact", segments=tuple(_indexed(folder, before, *before.segments)))
            manifest.publish(folder, state)
        if state is not before:
            draft.carry_over(folder, before, state)
        feedback.compact(folder)
        num_kept = sweeping.sweep(folder, keep_snapshots=keep_snapshots)
    report = CompactReport(
        images=state.num_images,
        segments_before=len(before.segments),
        segments_after=len(state.segments),
        deleted_rows=sum(part.rows.num for part in before.tombstones),
        bytes_before=bytes_before,
        bytes_after=sweeping.num_bytes(folder),
        snapshots=num_kept,
    )
    return state, report


def merged(folder: Path, state: Manifest) -> tuple[tuple[SegmentRecord, ...], int]:
    """All live rows in one new segment, and how many of them are further names of a picture."""
    records = put_together(folder, state, segments.read(folder, state))
    tables = [Segment(folder, record).table(["sha256"]) for record in records]
    return records, num_duplicates(name for table in tables for name in table["sha256"].to_pylist())


def put_together(folder: Path, state: Manifest, parts: Sequence[Segment]) -> tuple[SegmentRecord, ...]:
    """The live rows of some segments of the index at `state` in one new segment; none where there are no such rows.

    Their order is kept: that of hits which score alike follows from it.
    """
    if not any(part.live().any() for part in parts):
        return ()
    schema = catalog.join(part.schema().empty_table() for part in parts).schema
    # As many as any segment has: what images have less of, such as those whose picture was gone, they keep.
    token_bytes = max(part.record.token_bytes for part in parts)
    new_id = f"{state.version + 1:06d}-{uuid4().hex[:8]}"
    with SegmentWriter(folder, new_id, schema, dtype=state.dtype, token_bytes=token_bytes) as writer:
        for part in parts:
            for block in live_blocks(part):
                writer.add(block)
        return tuple(_indexed(folder, state, writer.finish()))


def _indexed(folder: Path, state: Manifest, *records: SegmentRecord) -> Iterator[SegmentRecord]:
    for record in records:
        yield approximating.build(folder, record, dtype=state.dtype, index_type=state.index_type)
