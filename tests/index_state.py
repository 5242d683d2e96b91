"""All that an index holds and answers, to be compared with another state of it, number by number."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from toy import ToyEmbedder

from indexer import Index
from indexer.searching import gallery
from indexer.storage import manifest, snapshots

DEPTH = 10_000
"""More hits than any of these indexes has rows."""


class IndexState(NamedTuple):
    """The model's fingerprint; each live row by its id, as its catalog's values, vector and tokens; judgments by id;
    each query's hits."""

    model: str
    rows: dict[str, tuple]
    judgments: frozenset[str]
    hits: tuple[tuple[tuple[str, float], ...], ...]


def state_of(path: Path, queries: Sequence[bytes]) -> IndexState:
    """What the index at `path` holds now, and its answers to pictures; raises what opening and searching raise."""
    embedder = embedder_of(path)
    index = Index.open(path, embedder)
    answers = index.search_many(queries, top_k=DEPTH, rerank=0)
    hits = tuple(tuple((hit.id, hit.score) for hit in answer) for answer in answers)
    judgments = frozenset(index.feedback(superseded=True)["id"])
    return IndexState(embedder.fingerprint, rows_of(path), judgments, hits)


def embedder_of(path: Path) -> ToyEmbedder:
    """The toy that the index at `path` was made with; raises what reading its manifest raises."""
    return ToyEmbedder(fingerprint=manifest.read(path).model.fingerprint)


def rows_of(path: Path, version: int | None = None) -> dict[str, tuple]:
    """The live rows of the index at `path`, as `IndexState.rows`; now, or as they were at an earlier version."""
    held = gallery.read(path, manifest.read(path) if version is None else snapshots.read(path, version), "cpu")
    numbers = np.flatnonzero(held.catalog.live)
    vectors = held.vectors(numbers)
    tokens = [b""] * len(numbers)
    if held.tokens is not None:
        tokens = [held.tokens.take(numbers[place : place + 1]).values.tobytes() for place in range(len(numbers))]
    rows = held.catalog.live_rows().to_pylist()
    assert len(rows) == len({row["id"] for row in rows}), "an id is there twice"
    return {
        row["id"]: (*sorted(map(str, row.items())), vector.tobytes(), token)
        for row, vector, token in zip(rows, vectors, tokens, strict=True)
    }


def brute_force(rows: dict[str, tuple], full: np.ndarray) -> list[tuple[str, float]]:
    """The hits of an uncut query vector, by its plain product with every row, of which no two score alike."""
    vectors = {image_id: np.frombuffer(row[-2], np.float32) for image_id, row in rows.items()}
    scores = {image_id: float(vector.astype(np.float64) @ full) for image_id, vector in vectors.items()}
    return sorted(scores.items(), key=lambda hit: -hit[1])
