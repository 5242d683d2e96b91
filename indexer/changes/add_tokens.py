"""Giving tokens to the images of an index that has none, or fewer: their pictures are read and encoded once more.

Ids, vectors, dims and catalogs stay as they are. Each segment gets its files in one go and is then named with them by
a new manifest, so that a run that was cut short goes on with the segments that it did not come to.
"""

import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from indexer import segments
from indexer.changes.reread import decode_again
from indexer.changes.token_merge import TokenMerge
from indexer.sources.decoding import Outcome
from indexer.sources.encode_config import EncodeConfig
from indexer.sources.item import Item
from indexer.storage.manifest import publish, read


@dataclass(frozen=True, kw_only=True)
class AddTokensConfig(EncodeConfig):
    """How to add tokens: see `Index.add_tokens`."""

    token_bytes: int


@dataclass(frozen=True, kw_only=True)
class TokensReport:
    """How many images were given tokens, had them already, or were skipped and keep what they had, if anything.

    `failures` holds `id`, `uri` and `reason` of each image skipped.
    """

    added: int
    unchanged: int
    skipped: int
    seconds: float
    failures: list[dict[str, str]]


class TokensRun:
    """One run of adding tokens to the index `folder`, whose lock the caller holds.

    `embedder` has `image_size`, `token_dim` and `encode_pixels`, as `retrieval.Embedder`.
    """

    def __init__(self, folder: Path, embedder, config: AddTokensConfig):
        self.folder = folder
        self.embedder = embedder
        self.config = config
        self.manifest = read(folder)
        self._num = {"added": 0, "unchanged": 0}
        self._failures: list[dict[str, str]] = []
        self._wanted: dict[str, list[_Row]] = {}  # by the uri of the picture
        self._unfinished = [self._begin(segment) for segment in segments.read(folder, self.manifest)]
        self._batch: list[tuple[np.ndarray, list[_Row]]] = []
        self._committed_at = time.monotonic()

    def run(self) -> TokensReport:
        """Give tokens to all images; whatever ends it early, the segments that are complete by then are committed."""
        started = time.monotonic()
        try:
            with closing(decode_again(self._wanted, self.embedder.image_size, self.config)) as decoded:
                for item, outcome in decoded:
                    self._take(item, outcome)
            self._encode()
        finally:
            self._commit()
        seconds = time.monotonic() - started
        return TokensReport(**self._num, skipped=len(self._failures), seconds=seconds, failures=self._failures)

    def _begin(self, segment: segments.Segment) -> TokenMerge:
        """Count what the segment has already, and note which of its rows are to be read again."""
        table = segment.table(["id", "uri", "sha256"])
        live = segment.live(table)
        token_bytes = self.config.token_bytes
        merge = TokenMerge(segment, live, token_bytes=token_bytes, token_dim=self.embedder.token_dim)
        is_as_wanted = segment.record.token_bytes == token_bytes
        self._num["unchanged" if is_as_wanted else "added"] += int((live & ~merge.wanted).sum())
        rows = zip(merge.wanted.tolist(), *(table[name].to_pylist() for name in table.column_names), strict=True)
        for number, (wanted, image_id, uri, sha256) in enumerate(rows):
            if wanted:
                self._wanted.setdefault(uri, []).append(_Row(merge, number, image_id, sha256))
        return merge

    def _take(self, item: Item, outcome: Outcome) -> None:
        sound = []
        for row in self._wanted[item.uri]:
            if outcome.problem is not None:
                self._fail(row, item, outcome.problem)
            elif row.sha256 != outcome.sha256:
                self._fail(row, item, "expected the picture that was indexed, got another one; index it again")
            else:
                sound.append(row)
        if sound:
            self._batch.append((outcome.pixels, sound))
            if len(self._batch) == self.config.batch_size:
                self._encode()
        overdue = time.monotonic() - self._committed_at >= self.config.commit_seconds
        if overdue and not all(merge.num_waiting for merge in self._unfinished):
            self._commit()

    def _fail(self, row: "_Row", item: Item, reason: str) -> None:
        self._failures.append({"id": row.id, "uri": item.uri, "reason": reason})
        row.merge.num_waiting -= 1

    def _encode(self) -> None:
        if not self._batch:
            return
        pixels = np.stack([pixels for pixels, _ in self._batch])
        tokens = self.embedder.encode_pixels(pixels, token_bytes=self.config.token_bytes).tokens
        rows = [(place, row) for place, (_, rows) in enumerate(self._batch) for row in rows]
        self._batch = []
        for merge in {id(row.merge): row.merge for _, row in rows}.values():
            own = [(place, row.number) for place, row in rows if row.merge is merge]
            places, numbers = zip(*own, strict=True)
            merge.add(numbers, tokens.take(places))
            self._num["added"] += len(numbers)

    def _commit(self) -> None:
        # Ctrl-C may have hit between the publishing and the clearing below: then all is done but the clearing.
        if read(self.folder).version == self.manifest.version:
            records = {merge.record.id: merge.write() for merge in self._unfinished if not merge.num_waiting}
            parts = tuple(records.get(record.id, record) for record in self.manifest.segments)
            token_bytes = self.config.token_bytes
            if (parts, token_bytes) != (self.manifest.segments, self.manifest.token_bytes):
                following = self.manifest.following("tokens", segments=parts, token_bytes=token_bytes)
                publish(self.folder, following)
                self.manifest = following
        self._unfinished = [merge for merge in self._unfinished if merge.num_waiting]
        self._committed_at = time.monotonic()


class _Row(NamedTuple):
    """A row that wants tokens: its segment's, its number there, its id, and the sha256 of its picture."""

    merge: TokenMerge
    number: int
    id: str
    sha256: str
