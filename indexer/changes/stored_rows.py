"""Rows of an index as they were written: what their source said of them, and vectors to go on with, without a model."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from indexer.catalog import LISTED_IN, SCHEMA
from indexer.segments import Place, Segment
from indexer.storage.manifest import Manifest
from indexer.tokens import StoredTokens

if TYPE_CHECKING:
    from retrieval.tokens import Tokens


class Stored(NamedTuple):
    """N rows: the sizes in pixels of their pictures, their vectors (N, D) float32, zero beyond their buckets, tokens.

    `tokens` is None where no segment has any.
    """

    sizes: list[tuple[int, int]]
    vectors: np.ndarray
    tokens: "Tokens | None"


class StoredRows:
    """The rows of the index `folder` at `state` by their places, the deleted ones among them."""

    def __init__(self, folder: Path, state: Manifest):
        self._widths = state.widths
        self._dtype = state.dtype
        self._segments = {record.id: Segment(folder, record) for record in state.segments}
        ends = np.cumsum([record.rows.num for record in state.segments]).tolist()
        self._first_of = dict(zip(self._segments, [0, *ends], strict=False))
        self._said = cache(self._read_said)

    def said(self, place: Place) -> tuple[str | None, dict[str, Any]]:
        """The label of a row, and the values, other than None, of its source's own columns; raises `DamagedError`."""
        label, *columns = self._said(place.segment)
        values = {name: column[place.row].as_py() for name, column in columns}
        return label[place.row].as_py(), {name: value for name, value in values.items() if value is not None}

    def take(self, places: Sequence[Place]) -> Stored:
        """Rows in the order of `places`; raises `DamagedError`."""
        sizes: list[tuple[int, int]] = [(0, 0)] * len(places)
        vectors = np.zeros((len(places), self._widths[-1]), np.float32)
        mine: dict[str, list[int]] = {}
        for number, place in enumerate(places):
            mine.setdefault(place.segment, []).append(number)
        for name, numbers in mine.items():
            table = self._segments[name].table(["width", "height", "bucket"])
            buckets = table["bucket"].to_numpy()
            numbers = np.array(numbers)
            rows = np.array([places[number].row for number in numbers])
            picked = table.select(["width", "height"]).take(rows)
            for number, size in zip(numbers.tolist(), zip(*picked.to_pydict().values(), strict=True), strict=True):
                sizes[number] = size
            for width in np.unique(buckets[rows]).tolist():
                are_of_width = buckets[rows] == width
                # A row's vector stands where it comes among the rows of its width.
                positions = np.cumsum(buckets == width)[rows[are_of_width]] - 1
                stored = self._segments[name].known_vectors(width, self._dtype)
                vectors[numbers[are_of_width], :width] = stored[positions]
        return Stored(sizes, vectors, self._tokens(places))

    def _tokens(self, places: Sequence[Place]) -> "Tokens | None":
        if not any(segment.record.token_bytes for segment in self._segments.values()):
            return None
        numbers = [self._first_of[place.segment] + place.row for place in places]
        return StoredTokens([*self._segments.values()]).take(np.array(numbers, dtype=np.int64))

    def _read_said(self, name: str) -> list[Any]:
        segment = self._segments[name]
        users = [column for column in segment.schema().names if column not in (*SCHEMA.names, LISTED_IN)]
        table = segment.table(["label", *users])
        return [table["label"].combine_chunks(), *((column, table[column].combine_chunks()) for column in users)]
