"""Committing what a run of adding has found out: one new segment, one new file of tombstones, one new manifest."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

import numpy as np

from indexer import segments
from indexer.catalog import Row
from indexer.changes.known_rows import Known, KnownRows
from indexer.changes.pending import Addition, Ready
from indexer.changes.stored_rows import StoredRows
from indexer.segments import Place
from indexer.storage.manifest import Manifest
from indexer.vectors import approximating

if TYPE_CHECKING:
    from retrieval.tokens import Tokens


class Written(NamedTuple):
    """Files that are synced, and the manifest that is to name them; the rows of the new segment, if there is one."""

    state: Manifest
    segment_id: str
    rows: list[Row]
    dropped: list[str]

    def note(self, known: KnownRows) -> None:
        """Bring `known` up to what was written, once that is published."""
        for image_id in self.dropped:
            known.drop(image_id)
        for number, row in enumerate(self.rows):
            place = Place(segment=self.segment_id, row=number, dim=row.dim, bucket=row.bucket)
            known.put(row.id, Known(row.uri, row.sha256, place, row.listed_in))


def write(folder: Path, state: Manifest, known: KnownRows, ready: Ready, *, token_dim: int) -> Written:
    """Write what is `ready` beside the index at `state`, which stays as it is; raises `OSError`, `DamagedError`."""
    new_id = f"{state.version + 1:06d}-{uuid4().hex[:8]}"
    parts = [_encoded(ready, state)] if ready.encoded else []
    if ready.names_of_known:
        parts.append(_names_of_known(ready.names_of_known, folder, state, known, token_dim))
    rows = [row for part in parts for row in part.rows]
    new_segments = []
    if rows:
        vectors = np.concatenate([part.vectors for part in parts])
        tokens = _joined([part.tokens for part in parts]) if state.token_bytes else None
        record = segments.write(
            folder, new_id, rows, vectors, state.dtype, tokens=tokens, token_bytes=state.token_bytes
        )
        new_segments.append(approximating.build(folder, record, dtype=state.dtype, index_type=state.index_type))
    dropped = ready.dropped
    places = [known.by_id[image_id].place for image_id in dropped]
    tombstones = [segments.write_tombstones(folder, new_id, places)] if places else []
    following = state.following(
        "add",
        segments=(*state.segments, *new_segments),
        tombstones=(*state.tombstones, *tombstones),
        num_duplicates=known.num_duplicates(dropped, (row.sha256 for row in rows)),
    )
    return Written(following, new_id, rows, dropped)


class _Part(NamedTuple):
    """Rows with their vectors, and their tokens, if they are to have any."""

    rows: list[Row]
    vectors: np.ndarray
    tokens: "Tokens | None"


def _encoded(ready: Ready, state: Manifest) -> _Part:
    """The pictures that the model saw, and then their further names."""
    rows = [
        _row(addition, dim, bucket, (addition.outcome.width, addition.outcome.height))
        for batch in ready.encoded
        for addition, dim, bucket in zip(batch.additions, batch.dims.tolist(), batch.buckets.tolist(), strict=True)
    ]
    first_of = {row.sha256: number for number, row in reversed([*enumerate(rows)])}
    numbers = [first_of[addition.outcome.sha256] for addition in ready.names_of_encoded]
    order = [*range(len(rows)), *numbers]
    for addition, number in zip(ready.names_of_encoded, numbers, strict=True):
        same = rows[number]
        rows.append(_row(addition, same.dim, same.bucket, (same.width, same.height)))
    vectors = np.concatenate([batch.vectors for batch in ready.encoded])
    tokens = _joined([batch.tokens for batch in ready.encoded]) if state.token_bytes else None
    return _Part(rows, vectors[order], None if tokens is None else tokens.take(order))


def _names_of_known(
    additions: Sequence[Addition], folder: Path, state: Manifest, known: KnownRows, token_dim: int
) -> _Part:
    """Pictures whose vectors the index has: they are copied, and no model sees them."""
    places = [known.place_of(addition.outcome.sha256) for addition in additions]
    stored = StoredRows(folder, state).take(places)
    rows = [
        _row(addition, place.dim, place.bucket, size)
        for addition, place, size in zip(additions, places, stored.sizes, strict=True)
    ]
    tokens = None
    if state.token_bytes:
        tokens = stored.tokens if stored.tokens is not None else _no_tokens(len(rows), token_dim)
    return _Part(rows, stored.vectors, tokens)


def _row(addition: Addition, dim: int, bucket: int, size: tuple[int, int]) -> Row:
    item, outcome = addition.item, addition.outcome
    return Row(
        id=item.id,
        uri=item.uri,
        sha256=outcome.sha256,
        width=size[0],
        height=size[1],
        num_bytes=outcome.num_bytes,
        dim=dim,
        bucket=bucket,
        label=item.label,
        columns=item.columns,
        listed_in=item.listed_in,
    )


def _joined(tokens: Sequence["Tokens"]) -> "Tokens":
    from retrieval.tokens import Tokens  # imports torch: only once there is something that was encoded by it

    return Tokens.concatenate(tokens)


def _no_tokens(num_rows: int, token_dim: int) -> "Tokens":
    from retrieval.tokens import Tokens

    return Tokens(values=np.zeros((0, token_dim), np.int8), counts=np.zeros(num_rows, np.int64))
