"""Adding pictures to an index: decode, encode, and commit every few seconds, so that a sudden end loses little."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

import loky
import numpy as np
from tqdm import tqdm

from indexer import corpus, segments
from indexer.buckets import width_of
from indexer.catalog import Row
from indexer.decoding import Outcome, Task, decode_all
from indexer.failures import FAILURES, Failures
from indexer.ids import free_id, read_known
from indexer.item import Item
from indexer.manifest import Manifest, publish, read
from indexer.names import num_duplicates
from retrieval.errors import ImageError, UsageError

if TYPE_CHECKING:
    from retrieval.tokens import Tokens

_MOST_PENDING = 32_768


@dataclass(frozen=True, kw_only=True)
class AddConfig:
    """How to add: see `Index.add`."""

    label_from: str | None = None
    exclude_dirs: tuple[str, ...] = ()
    num_workers: int | None = None
    batch_size: int = 64
    on_error: str = "skip"
    show_progress_bar: bool = False
    commit_seconds: float = 20.0
    on_progress: Callable[[int, int | None], None] | None = None

    def __post_init__(self):
        if self.num_workers is not None and self.num_workers < 0:
            raise UsageError(f"expected num_workers of 0 (decode in this process) or more, got {self.num_workers}")
        if self.batch_size < 1:
            raise UsageError(f"expected a batch_size of at least 1, got {self.batch_size}")
        if self.on_error not in ("skip", "stop"):
            raise UsageError(f"expected on_error 'skip' or 'stop', got {self.on_error!r}")


@dataclass(frozen=True, kw_only=True)
class AddReport:
    """What became of the pictures of the sources; `failures` holds `id`, `uri` and `reason` of each one skipped."""

    added: int
    unchanged: int
    updated: int
    skipped: int
    seconds: float
    images_per_second: float
    failures: list[dict[str, str]]


class Ingest:
    """One run of adding to the index `folder`, whose lock the caller holds.

    `embedder` has `image_size` and `encode_pixels`, as `retrieval.Embedder`.
    """

    def __init__(self, folder: Path, embedder, config: AddConfig):
        self.folder = folder
        self.embedder = embedder
        self.config = config
        self.manifest = read(folder)
        self._known = read_known(folder, self.manifest)
        self._failures = Failures(folder / FAILURES)
        self._failed: list[dict[str, str]] = []
        self._num = dict.fromkeys(("added", "unchanged", "updated"), 0)
        self._batch: list[tuple[Item, Outcome]] = []
        self._encoded: list[_Encoded] = []
        self._committed_at = time.monotonic()

    def run(self, sources: Sequence[str | Path]) -> AddReport:
        """Add the pictures of all sources; whatever ends it early, what was encoded by then is committed."""
        started, config = time.monotonic(), self.config
        items = [
            corpus.read(source, label_from=config.label_from, exclude_dirs=config.exclude_dirs) for source in sources
        ]
        decoded = decode_all(
            self._tasks(chain.from_iterable(items)),
            self.embedder.image_size,
            num_workers=loky.cpu_count() if config.num_workers is None else config.num_workers,
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
        finally:
            self._commit()
        seconds = time.monotonic() - started
        num_encoded = self._num["added"] + self._num["updated"]
        return AddReport(
            **self._num,
            skipped=len(self._failed),
            seconds=seconds,
            images_per_second=num_encoded / seconds,
            failures=self._failed,
        )

    def _tasks(self, items: Iterable[Item]) -> Iterator[Task]:
        seen: dict[str, str] = {}
        for item in items:
            item_id = free_id(item, self._known, seen)
            if item_id is not None:
                seen[item_id] = item.uri
                known = self._known.get(item_id)
                same_place = known is not None and known.uri == item.uri
                yield Task(item=replace(item, id=item_id), known_sha256=known.sha256 if same_place else None)

    def _take(self, item: Item, outcome: Outcome) -> None:
        if outcome.problem is not None:
            self._fail(item, outcome.problem)
        elif outcome.unchanged:
            self._num["unchanged"] += 1
            self._failures.forget(item.id)
        else:
            self._batch.append((item, outcome))
            if len(self._batch) == self.config.batch_size:
                self._encode()
        overdue = time.monotonic() - self._committed_at >= self.config.commit_seconds
        if overdue or len(self._encoded) * self.config.batch_size >= _MOST_PENDING:
            self._commit()

    def _fail(self, item: Item, problem: str) -> None:
        failure = {"id": item.id, "uri": item.uri, "reason": problem}
        self._failed.append(failure)
        self._failures.note(failure)
        if self.config.on_error == "stop":
            self._encode()
            raise ImageError(f"{item.uri}: {problem}; to go on without such pictures, use on_error='skip'")

    def _encode(self) -> None:
        if not self._batch:
            return
        pixels = np.stack([outcome.pixels for _, outcome in self._batch])
        embeddings = self.embedder.encode_pixels(pixels, token_bytes=self.manifest.token_bytes)
        buckets = width_of(embeddings.dims, self.manifest.widths)
        rows = [
            _row(item, outcome, int(dim), int(bucket))
            for (item, outcome), dim, bucket in zip(self._batch, embeddings.dims, buckets, strict=True)
        ]
        replaced = [self._known[row.id].place for row in rows if row.id in self._known]
        # In one step: Ctrl-C may come between any two.
        self._encoded.append(_Encoded(rows, embeddings.vectors, embeddings.tokens, replaced))
        self._batch = []
        self._num["added"] += len(rows) - len(replaced)
        self._num["updated"] += len(replaced)
        for row in rows:
            self._failures.forget(row.id)

    def _commit(self) -> None:
        # Ctrl-C may have hit between the publishing and the clearing below: then all is done but the clearing.
        if self._encoded and read(self.folder).version == self.manifest.version:
            following = _write(self.folder, self.manifest, self._encoded)
            shas = {item_id: known.sha256 for item_id, known in self._known.items()}
            shas |= {row.id: row.sha256 for batch in self._encoded for row in batch.rows}
            following = replace(following, num_duplicates=num_duplicates(shas.values()))
            publish(self.folder, following)
            self.manifest = following
        self._encoded = []
        self._failures.save()
        self._committed_at = time.monotonic()

    def _count(self, sources: Sequence[str | Path]) -> int | None:
        """How many pictures there are, where somebody wants to know and it is quick to say."""
        if not self.config.show_progress_bar and self.config.on_progress is None:
            return None
        nums = [corpus.count(source, exclude_dirs=self.config.exclude_dirs) for source in sources]
        return None if None in nums else sum(nums)

    def _progress_bar(self, total: int | None) -> tqdm:
        return tqdm(total=total, unit=" images", disable=not self.config.show_progress_bar)


class _Encoded(NamedTuple):
    """A batch that waits to be committed: N rows, their vectors (N, 512), their tokens if they are to have any.

    And the places of the rows that they replace.
    """

    rows: list[Row]
    vectors: np.ndarray
    tokens: "Tokens | None"
    replaced: list[segments.Place]


def _write(folder: Path, state: Manifest, encoded: Sequence[_Encoded]) -> Manifest:
    """Write all batches as one segment; returns the manifest that is to say so."""
    new_id = f"{state.version + 1:06d}-{uuid4().hex[:8]}"
    rows = [row for batch in encoded for row in batch.rows]
    vectors = np.concatenate([batch.vectors for batch in encoded])
    replaced = [place for batch in encoded for place in batch.replaced]
    tokens = _joined([batch.tokens for batch in encoded]) if state.token_bytes else None
    segment = segments.write(folder, new_id, rows, vectors, state.dtype, tokens=tokens, token_bytes=state.token_bytes)
    tombstones = [segments.write_tombstones(folder, new_id, replaced)] if replaced else []
    return state.following("add", segments=(*state.segments, segment), tombstones=(*state.tombstones, *tombstones))


def _joined(tokens: Sequence["Tokens"]) -> "Tokens":
    from retrieval.tokens import Tokens  # imports torch: only once there is something that was encoded by it

    return Tokens.concatenate(tokens)


def _row(item: Item, outcome: Outcome, dim: int, bucket: int) -> Row:
    return Row(
        id=item.id,
        uri=item.uri,
        sha256=outcome.sha256,
        width=outcome.width,
        height=outcome.height,
        num_bytes=outcome.num_bytes,
        dim=dim,
        bucket=bucket,
        label=item.label,
        columns=item.columns,
    )
