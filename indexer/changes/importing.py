"""Importing what another index was exported to: its rows are checked, and written as one segment, a block at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import numpy as np
import pyarrow as pa

from indexer import segments
from indexer.changes import creating, exported, known_rows, tiers
from indexer.changes.exported import Head
from indexer.changes.imported_rows import block_of
from indexer.changes.row_blocks import BLOCK, RowBlock
from indexer.changes.segment_writer import SegmentWriter
from indexer.names import num_duplicates
from indexer.storage import manifest
from indexer.storage.durable import sole_writer, writing
from indexer.storage.manifest import LOCK, Manifest
from indexer.vectors import approximating
from retrieval.errors import MismatchError, SourceError


@dataclass(frozen=True, kw_only=True)
class ImportReport:
    """What became of the rows of a file: new ids, ids whose picture is another now, and ids that were there already."""

    added: int
    updated: int
    unchanged: int


def import_file(file: str | Path, folder: str | Path) -> ImportReport:
    """Add the rows of an exported file to the index in `folder`, which is made where there is none.

    No model is needed. A row whose id the index has already replaces that one if its picture is another (by uri and
    sha256) and is left out if not. All rows are added or, where one is unsound, none. Raises `SourceError` for a file
    that no index was exported to, `MismatchError` where another model made its vectors, `LockedError`,
    `IndexFolderError`.
    """
    file, folder = Path(file), Path(folder)
    parquet, head = exported.open_file(file)
    with parquet:
        is_new = not manifest.exists(folder)
        if is_new:
            creating.make_folder(folder)
        with sole_writer(folder / LOCK):
            state = _empty_state(head) if is_new else manifest.read(folder)
            _refuse_mismatch(file, head, folder, state)
            with writing(folder):
                return _Import(folder, state, file, head).run(parquet)


class _Import:
    """One run of importing into the index `folder`, whose lock the caller holds."""

    def __init__(self, folder: Path, state: Manifest, file: Path, head: Head):
        self._folder = folder
        self._state = state
        self._file = file
        self._head = head
        self._known = known_rows.read(folder, state).by_id
        self._sha256_of = {image_id: known.sha256 for image_id, known in self._known.items()}
        self._seen: set[str] = set()
        self._replaced: list[segments.Place] = []
        self._num = {"added": 0, "updated": 0, "unchanged": 0}

    def run(self, parquet) -> ImportReport:
        state, new_id = self._state, f"{self._state.version + 1:06d}-{uuid4().hex[:8]}"
        schema = self._head.catalog_schema(parquet.schema_arrow).remove_metadata()
        token_bytes = self._head.token_bytes if self._head.token_column else 0
        written, tombstones = [], []
        with SegmentWriter(self._folder, new_id, schema, dtype=state.dtype, token_bytes=token_bytes) as writer:
            for block in self._blocks(parquet):
                writer.add(block)
            if self._num["added"] + self._num["updated"]:
                record = writer.finish()
                written.append(
                    approximating.build(self._folder, record, dtype=state.dtype, index_type=state.index_type)
                )
        if self._replaced:
            tombstones.append(segments.write_tombstones(self._folder, new_id, self._replaced))
        if written or not manifest.exists(self._folder):
            following = state.following(
                "import",
                segments=(*state.segments, *written),
                tombstones=(*state.tombstones, *tombstones),
                num_duplicates=num_duplicates(self._sha256_of.values()),
            )
            manifest.publish(self._folder, following)
            tiers.tidy(self._folder, following)
        return ImportReport(**self._num)

    def _blocks(self, parquet) -> Iterator[RowBlock]:
        number = 0
        try:
            for batch in parquet.iter_batches(BLOCK, use_threads=False):
                table = pa.Table.from_batches([batch])
                new = self._new_rows(table, number)
                yield block_of(table.filter(pa.array(new)), self._head, self._state.widths)
                number += len(table)
        except (pa.ArrowException, OSError, SourceError) as error:
            reason = str(error).splitlines()[0]
            rows = f"rows {number} to {number + BLOCK - 1}"
            raise SourceError(f"expected sound rows in {self._file}, got in {rows}: {reason}; export it anew") from None

    def _new_rows(self, table: pa.Table, first: int) -> np.ndarray:
        """Which rows of a batch are to be written, (N,) bool."""
        new = np.ones(len(table), bool)
        rows = zip(*(table[name].to_pylist() for name in ("id", "uri", "sha256")), strict=True)
        for place, (image_id, uri, sha256) in enumerate(rows):
            if not image_id or image_id in self._seen:
                raise SourceError(f"expected an id of its own, got {image_id!r} in row {first + place}")
            self._seen.add(image_id)
            self._sha256_of[image_id] = sha256
            known = self._known.get(image_id)
            if known is None:
                self._num["added"] += 1
            elif (known.uri, known.sha256) == (uri, sha256):
                self._num["unchanged"] += 1
                new[place] = False
            else:
                self._num["updated"] += 1
                self._replaced.append(known.place)
        return new


def _empty_state(head: Head) -> Manifest:
    return Manifest(
        version=0,
        model=head.model,
        widths=head.widths,
        dtype=head.dtype,
        index_type=head.index_type,
        token_bytes=head.token_bytes,
    )


def _refuse_mismatch(file: Path, head: Head, folder: Path, state: Manifest) -> None:
    if head.model.fingerprint != state.model.fingerprint or head.widths[-1] != state.widths[-1]:
        made, given = (f"{model.name} ({model.fingerprint[:12]})" for model in (state.model, head.model))
        raise MismatchError(
            f"expected vectors of the model that {folder} was built with, {made}, got those of {given} in {file}; "
            "import them into an index of their own, or re-encode one of the two first"
        )
