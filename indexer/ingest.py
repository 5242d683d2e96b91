"""Adding pictures to an index: decode, encode, and commit every few seconds, so that a sudden end loses little.

Only bytes that the index has not seen go through the model. A picture that has moved, whose metadata has changed, or
whose bytes are known under another name, gets a row with a copy of the vector that there is (`indexer.names`).
"""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from indexer import corpus
from indexer.buckets import width_of
from indexer.changes import committing, known_rows, pruning, retrying, tiers
from indexer.changes.add_config import AddConfig
from indexer.changes.failures import FAILURES, Failures
from indexer.changes.ids import free_id, is_in_place_of
from indexer.changes.known_rows import Known
from indexer.changes.metadata_match import says_the_same
from indexer.changes.pending import Addition, Encoded, Pending
from indexer.changes.stored_rows import StoredRows
from indexer.sources.decoding import Outcome, Task, decode_all
from indexer.sources.item import Item
from indexer.storage.durable import writing
from indexer.storage.manifest import publish, read
from retrieval.errors import ImageError, UsageError

_MOST_PENDING = 32_768


@dataclass(frozen=True, kw_only=True)
class AddReport:
    """What became of the pictures of the sources; `failures` holds `id`, `uri` and `reason` of each one skipped.

    Each picture is `added` (new, encoded), `unchanged`, `updated` (its content, place or metadata is another one),
    `skipped`, `renamed` (known bytes under a new id, and nothing left at the old place) or a further name of a picture
    (`duplicates`: known bytes under a new id). `pruned` are the ids that were deleted since their sources lack them.
    """

    added: int
    unchanged: int
    updated: int
    skipped: int
    seconds: float
    images_per_second: float
    failures: list[dict[str, str]]
    renamed: int = 0
    duplicates: int = 0
    pruned: int = 0


class Ingest:
    """One run of adding to the index `folder`, whose lock the caller holds.

    `embedder` has `image_size` and `encode_pixels`, as `retrieval.Embedder`.
    """

    def __init__(self, folder: Path, embedder, config: AddConfig):
        self.folder = folder
        self.embedder = embedder
        self.config = config
        self.manifest = read(folder)
        self._known = known_rows.read(folder, self.manifest)
        self._stored = StoredRows(folder, self.manifest)
        self._failures = Failures(folder / FAILURES)
        self._failed: list[dict[str, str]] = []
        self._num: Counter[str] = Counter()
        self._pending = Pending()
        self._seen: dict[str, str] = {}
        self._own_ids: dict[str, str] = {}  # of those that are kept under another
        self._unread: set[str] = set()
        self._old_names: dict[str, list[tuple[str, str]]] = {}
        self._committed_at = time.monotonic()

    def run(self, sources: Sequence[str | Path]) -> AddReport:
        """Add the pictures of all sources; whatever ends it early, what was encoded by then is committed."""
        started, config = time.monotonic(), self.config
        if config.retry_failed and sources:
            raise UsageError(f"expected no sources with retry_failed, got {len(sources)}; leave one of the two out")
        given = self._open(sources)
        tried = [line["uri"] for line in self._failures.lines()]
        places = tried if config.retry_failed else [pruning.location(source) for source in sources]
        decoded = decode_all(
            self._tasks(given),
            self.embedder.image_size,
            num_workers=config.num_processes,
            num_ahead=2 * config.batch_size,
        )
        try:
            total = self._count(sources)
            with closing(decoded), self._progress_bar(total) as progress_bar:
                for num_done, (item, outcome) in enumerate(decoded, start=1):
                    self._take(item, outcome)
                    progress_bar.update()
                    if config.on_progress is not None:
                        config.on_progress(num_done, total)
            self._encode()
            self._failures.settle(places, {failure["id"] for failure in self._failed})
            if config.prune:
                self._prune(given)
        finally:
            self._commit()
        self._tidy()
        seconds = time.monotonic() - started
        names = ("added", "unchanged", "updated", "renamed", "duplicates", "pruned")
        return AddReport(
            **{name: self._num[name] for name in names},
            skipped=len(self._failed),
            seconds=seconds,
            images_per_second=self._num["encoded"] / seconds,
            failures=self._failed,
        )

    def _open(self, sources: Sequence[str | Path]) -> "list[_Given]":
        options = {"label_from": self.config.label_from, "exclude_dirs": self.config.exclude_dirs}
        if self.config.retry_failed:
            return [_Given("failures", retrying.failed(self._failures.lines(), **options))]
        return [_Given(source, corpus.read(source, **options)) for source in sources]

    def _tasks(self, given: "Sequence[_Given]") -> Iterator[Task]:
        for source in given:
            for item in source.items:
                source.num += 1
                if item.problem is not None:
                    self._unread.add(corpus.container(item.uri) if item.breaks_off else item.uri)
                item_id = free_id(item, self._known.by_id, self._seen)
                if item_id is not None:
                    known = self._known.by_id.get(item_id)
                    item = self._under(item, item_id)
                    yield Task(item=item, known_sha256=known.sha256 if known else None)

    def _under(self, item: Item, item_id: str) -> Item:
        self._seen[item_id] = item.uri
        if item_id != item.id:
            self._own_ids[item_id] = item.id
        return replace(item, id=item_id)

    def _take(self, item: Item, outcome: Outcome) -> None:
        if outcome.problem is not None:
            self._fail(item, outcome.problem)
        else:
            self._place(item, outcome)
            if len(self._pending.batch) == self.config.batch_size:
                self._encode()
        overdue = time.monotonic() - self._committed_at >= self.config.commit_seconds
        if overdue or len(self._pending) >= _MOST_PENDING:
            self._commit()
            self._tidy()

    def _place(self, item: Item, outcome: Outcome) -> None:
        """Find out whether a picture is known, by its id or by its bytes."""
        held = self._held(item.id)
        if held is not None and held.sha256 != outcome.sha256 and not is_in_place_of(item, held):
            item = self._beside(item)
            held = self._held(item.id)
        if held is not None:
            item = self._with_kept_label(item, held)
            if held.sha256 == outcome.sha256 and self._is_as_kept(item, held):
                self._num["unchanged"] += 1
                self._failures.forget(item.id)
                return
        is_known = self._known.place_of(outcome.sha256) is not None or self._pending.has(outcome.sha256)
        old_name = self._old_name(outcome.sha256) if is_known and held is None else None
        replaces = item.id if held is not None else old_name
        addition = Addition(item, outcome, () if replaces is None else (replaces,))
        if is_known:
            self._pending.name(addition.without_pixels())
        else:
            self._pending.to_encode(addition)
        if held is not None:
            self._num["updated"] += 1
        elif old_name is not None:
            self._num["renamed"] += 1
        else:
            self._num["duplicates" if is_known else "added"] += 1

    def _held(self, item_id: str) -> Known | None:
        return None if self._pending.drops(item_id) else self._known.by_id.get(item_id)

    def _beside(self, item: Item) -> Item:
        """A picture whose id was free only if it was the one that had it, under an id of its own."""
        del self._seen[item.id]
        item = replace(item, id=self._own_ids.pop(item.id, item.id))
        item_id = free_id(item, self._known.by_id, self._seen, may_have_moved=False)
        assert item_id is not None
        return self._under(item, item_id)

    def _with_kept_label(self, item: Item, held: Known) -> Item:
        # A folder that is read without label_from says nothing of labels, so it takes none away.
        says_nothing = self.config.label_from is None and item.listed_in is None and not corpus.is_inside(item.uri)
        return replace(item, label=self._stored.said(held.place)[0]) if says_nothing else item

    def _is_as_kept(self, item: Item, held: Known) -> bool:
        is_in_place = item.uri == held.uri and item.listed_in == held.listed_in
        return is_in_place and says_the_same(item, *self._stored.said(held.place))

    def _old_name(self, sha256: str) -> str | None:
        """An id that the same bytes had at a place where nothing is left: a file that was renamed or moved."""
        if sha256 not in self._old_names:
            # Looked for once: there may be thousands of copies, and those that this run adds are not gone.
            names = [(name, self._known.by_id[name].uri) for name in self._known.ids_of(sha256)]
            self._old_names[sha256] = [(name, uri) for name, uri in reversed(names) if corpus.is_gone(uri)]
        names = self._old_names[sha256]
        while names:
            name, uri = names.pop()
            held = self._held(name)
            # Since it was looked for, another picture may have taken the name.
            if held is not None and (held.sha256, held.uri) == (sha256, uri):
                return name
        return None

    def _fail(self, item: Item, problem: str) -> None:
        failure = {"id": item.id, "uri": item.uri, "reason": problem}
        self._failed.append(failure)
        self._failures.note(item, problem)
        if self.config.on_error == "stop":
            self._encode()
            raise ImageError(f"{item.uri}: {problem}; to go on without such pictures, use on_error='skip'")

    def _encode(self) -> None:
        batch = self._pending.batch
        if not batch:
            return
        pixels = np.stack([addition.outcome.pixels for addition in batch])
        embeddings = self.embedder.encode_pixels(pixels, token_bytes=self.manifest.token_bytes)
        buckets = width_of(embeddings.dims, self.manifest.widths)
        additions = [addition.without_pixels() for addition in batch]
        self._pending.encoded(Encoded(additions, embeddings.dims, buckets, embeddings.vectors, embeddings.tokens))
        self._num["encoded"] += len(batch)

    def _prune(self, given: "Sequence[_Given]") -> None:
        for source in given:
            known = {name: row for name, row in self._known.by_id.items() if not self._pending.drops(name)}
            is_sure = self.config.prune == "all"
            ids = pruning.vanished(source.source, known, self._seen, self._unread, source.num, is_sure=is_sure)
            self._pending.drop(ids)
            self._num["pruned"] += len(ids)

    def _commit(self) -> None:
        ready = self._pending.ready(self._known)
        with writing(self.folder):
            # Ctrl-C may have hit between the publishing and the noting below: then all is done but the noting.
            if ready is not None and read(self.folder).version == self.manifest.version:
                token_dim = getattr(self.embedder, "token_dim", 0)
                written = committing.write(self.folder, self.manifest, self._known, ready, token_dim=token_dim)
                publish(self.folder, written.state)
                self.manifest = written.state
                self._pending.committed(ready)
                written.note(self._known)
                for row in written.rows:
                    self._failures.forget(row.id)
            self._failures.save()
        self._committed_at = time.monotonic()

    def _tidy(self) -> None:
        """Put small segments together, once there are many: a long run makes one every few seconds."""
        with writing(self.folder):
            following = tiers.tidy(self.folder, self.manifest)
            if following is not self.manifest:
                self.manifest = following
                self._known = known_rows.read(self.folder, following)
                self._stored = StoredRows(self.folder, following)

    def _count(self, sources: Sequence[str | Path]) -> int | None:
        """How many pictures there are, where somebody wants to know and it is quick to say."""
        if not self.config.show_progress_bar and self.config.on_progress is None:
            return None
        nums = [corpus.count(source, exclude_dirs=self.config.exclude_dirs) for source in sources]
        return None if None in nums else sum(nums)

    def _progress_bar(self, total: int | None) -> tqdm:
        return tqdm(total=total, unit=" images", disable=not self.config.show_progress_bar)


@dataclass
class _Given:
    """A source, its pictures, and how many of them it gave so far."""

    source: str | Path
    items: Iterator[Item]
    num: int = 0
