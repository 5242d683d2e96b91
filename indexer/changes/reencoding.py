"""Encoding the pictures of an index anew, by another model: they are read again from where they came.

What is done is kept as a draft beside the index, so that a run that was cut short is taken up by the next one. The
index serves the old vectors until all are there; then one manifest replaces them.
"""

import shutil
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from indexer import catalog, segments
from indexer.changes import compacting
from indexer.changes.creating import token_bytes_of
from indexer.changes.reencoded_rows import EncodedPictures, block_of
from indexer.changes.reread import decode_again
from indexer.changes.segment_writer import SegmentWriter
from indexer.sources.decoding import Outcome
from indexer.sources.encode_config import EncodeConfig
from indexer.sources.item import Item
from indexer.storage import draft
from indexer.storage.manifest import Manifest, now, publish, read
from indexer.storage.records import Model
from retrieval.errors import SourceError

_MOST_PENDING = 32_768


@dataclass(frozen=True, kw_only=True)
class ReencodeConfig(EncodeConfig):
    """How to encode anew: see `Index.reencode`."""

    drop_missing: bool = False


@dataclass(frozen=True, kw_only=True)
class ReencodeReport:
    """What became of the images: `encoded` now, `unchanged` since an earlier run encoded them, or `skipped`.

    `changed` counts those encoded that show another picture than before; `failures` holds `id`, `uri` and `reason` of
    each one skipped. `is_whole` says whether the index has the new model's vectors now. Where it has not, it serves the
    old ones, and what was encoded is kept for the next run.
    """

    encoded: int
    changed: int
    unchanged: int
    skipped: int
    seconds: float
    failures: list[dict[str, str]]
    is_whole: bool


class Reencoding:
    """One run of encoding the index `folder` anew, whose lock the caller holds.

    `embedder` has `name`, `fingerprint`, `image_size`, `widths` and `encode_pixels`, as `retrieval.Embedder`.
    """

    def __init__(self, folder: Path, embedder, config: ReencodeConfig):
        self.folder = folder
        self.embedder = embedder
        self.config = config
        self.manifest = read(folder)
        self._draft = self._begun()
        parts = segments.read(folder, self.manifest)
        self._rows = catalog.join(part.table() for part in parts)
        live = np.concatenate([np.empty(0, bool), *(part.live() for part in parts)])
        self._wanted = self._numbers_by_uri(live)
        self._num = {"encoded": 0, "changed": 0, "unchanged": self._draft.num_images}
        self._failures: list[dict[str, str]] = []
        self._batch: list[_Read] = []
        self._pending: list[EncodedPictures] = []
        self._committed_at = time.monotonic()

    def run(self) -> ReencodeReport:
        """Encode all images; whatever ends it early, what was encoded by then is kept for the next run.

        Where the index has this very model, only the name by which it goes now is kept. Raises `SourceError` where
        all are missing, and would be dropped.
        """
        started, config = time.monotonic(), self.config
        if self.manifest.model.fingerprint == self.embedder.fingerprint:
            if self.manifest.model.name != self.embedder.name:
                self.manifest = self.manifest.following("reencode", model=self._draft.model)
                publish(self.folder, self.manifest)
            return self._report(started, is_whole=True, unchanged=self.manifest.num_images)
        try:
            with closing(decode_again(self._wanted, self.embedder.image_size, config)) as decoded:
                for item, outcome in decoded:
                    self._take(item, outcome)
            self._encode()
        finally:
            self._commit()
        if config.drop_missing and self._failures and not self._draft.segments:
            raise SourceError(
                f"expected pictures to go on with, found none of {self.manifest.num_images} of {self.folder}; is their "
                "disk mounted? To take them out all the same, remove them by a condition"
            )
        is_whole = config.drop_missing or not self._failures
        if is_whole:
            self._publish()
        return self._report(started, is_whole=is_whole)

    def _begun(self) -> Manifest:
        """The draft of an earlier run of this model over this very state, or a new one."""
        embedder, state = self.embedder, self.manifest
        token_bytes = max([state.token_bytes, *(segment.token_bytes for segment in state.segments)])
        widths = state.widths if state.widths[-1] == embedder.widths[-1] else tuple(embedder.widths)
        new = state.following(
            "reencode",
            model=Model(name=embedder.name, fingerprint=embedder.fingerprint, image_size=embedder.image_size),
            widths=widths,
            token_bytes=token_bytes_of(embedder, token_bytes),
            num_duplicates=0,
            segments=(),
            tombstones=(),
        )
        found = draft.read(self.folder, state)
        if found is None or found != replace(new, when=found.when, segments=found.segments):
            return new
        # Damage to what an earlier run has left is no reason to stop: its images are encoded once more.
        return new if any(segments.verify(self.folder, found)) else found

    def _numbers_by_uri(self, live: np.ndarray) -> dict[str, list[int]]:
        """The rows that are to be encoded, by the uri of their picture."""
        done: set[str] = set()
        for part in segments.read(self.folder, self._draft):
            done.update(part.table(["id"])["id"].to_pylist())
        wanted: dict[str, list[int]] = {}
        rows = zip(live.tolist(), *(self._rows[name].to_pylist() for name in ("id", "uri")), strict=True)
        for number, (is_live, image_id, uri) in enumerate(rows):
            if is_live and image_id not in done:
                wanted.setdefault(uri, []).append(number)
        return wanted

    def _take(self, item: Item, outcome: Outcome) -> None:
        numbers = self._wanted[item.uri]
        if outcome.problem is not None:
            ids = self._rows["id"].take(pa.array(numbers)).to_pylist()
            self._failures += [{"id": each, "uri": item.uri, "reason": outcome.problem} for each in ids]
        else:
            self._batch.append(_Read(numbers, outcome))
            if len(self._batch) == self.config.batch_size:
                self._encode()
        overdue = time.monotonic() - self._committed_at >= self.config.commit_seconds
        if overdue or len(self._pending) * self.config.batch_size >= _MOST_PENDING:
            self._commit()

    def _encode(self) -> None:
        if not self._batch:
            return
        pixels = np.stack([read.outcome.pixels for read in self._batch])
        embeddings = self.embedder.encode_pixels(pixels, token_bytes=self._draft.token_bytes)
        facts = [replace(read.outcome, pixels=None) for read in self._batch]
        numbers = [number for read in self._batch for number in read.numbers]
        owners = [owner for owner, read in enumerate(self._batch) for _ in read.numbers]
        tokens = embeddings.tokens if self._draft.token_bytes else None
        # In one step: Ctrl-C may come between any two.
        self._pending.append(EncodedPictures(numbers, owners, facts, embeddings.vectors, embeddings.dims, tokens))
        self._batch = []

    def _commit(self) -> None:
        """Write what is encoded as a segment of the draft."""
        pending, self._pending = self._pending, []
        if pending:
            new_id = f"{self._draft.version:06d}-{uuid4().hex[:8]}"
            schema, token_bytes = self._rows.schema, self._draft.token_bytes
            options = {"dtype": self._draft.dtype, "token_bytes": token_bytes}
            with SegmentWriter(self.folder, new_id, schema, **options) as writer:
                for encoded in pending:
                    rows = self._rows.take(pa.array(encoded.numbers))
                    block = block_of(rows, encoded, self._draft.widths)
                    self._num["changed"] += pc.sum(pc.not_equal(rows["sha256"], block.table["sha256"])).as_py()
                    writer.add(block)
                record = writer.finish()
            self._draft = replace(self._draft, segments=(*self._draft.segments, record))
            draft.write(self.folder, self._draft)
            self._num["encoded"] += record.rows.num
        self._committed_at = time.monotonic()

    def _publish(self) -> None:
        """Make the draft the state of the index, its segments merged into one."""
        whole, duplicates = self._draft, 0
        if whole.segments:
            parts, duplicates = compacting.merged(self.folder, whole)
            whole = replace(whole, segments=parts)
        self.manifest = replace(whole, when=now(), num_duplicates=duplicates)
        publish(self.folder, self.manifest)
        draft.remove(self.folder)
        for part in self._draft.segments:
            # Merged, and named by nothing; what cannot be removed now is swept by the next `compact`.
            shutil.rmtree(self.folder / segments.SEGMENTS / part.id, ignore_errors=True)

    def _report(self, started: float, *, is_whole: bool, **nums: int) -> ReencodeReport:
        return ReencodeReport(
            **(self._num | nums),
            skipped=len(self._failures),
            seconds=time.monotonic() - started,
            failures=self._failures,
            is_whole=is_whole,
        )


class _Read(NamedTuple):
    """A picture that waits to be encoded, and the rows that it belongs to."""

    numbers: Sequence[int]
    outcome: Outcome
