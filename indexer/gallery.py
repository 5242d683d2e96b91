"""What a search looks through: all vectors of an index, and the catalog whose rows they are numbered by."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from indexer import catalog, segments
from indexer.buckets import BucketedIndex
from indexer.catalog import Catalog
from indexer.manifest import Manifest
from indexer.tokens import StoredTokens
from retrieval.errors import DamagedError, UsageError


class Gallery(NamedTuple):
    """The catalog of an index, its live vectors under the numbers of their rows, and its tokens, if it has some."""

    catalog: Catalog
    buckets: BucketedIndex
    tokens: StoredTokens | None

    def vectors(self, numbers: np.ndarray) -> np.ndarray:
        """The stored vectors of the live rows `numbers` (..., K), (..., K, D) float32, zero beyond their buckets."""
        vectors = self.buckets.vectors(np.ravel(numbers))
        return vectors.reshape(*np.shape(numbers), vectors.shape[-1])


def read(path: Path, state: Manifest, device: str) -> Gallery:
    """The index in the folder `path` as it was at `state`; raises `DamagedError`."""
    # Only a plain scan runs on a GPU: where the model is to run says nothing of the other types.
    where = device if state.index_type in ("auto", "Flat") else "cpu"
    buckets = BucketedIndex(state.widths, dtype=state.dtype, device=where, index_type=state.index_type)
    tables, lives, first = [], [np.empty(0, dtype=bool)], 0
    parts = segments.read(path, state)
    for segment in parts:
        table = segment.table()
        live = segment.live(table)
        bucket_of_row = table["bucket"].to_numpy()
        for width in segment.record.rows.buckets:
            (rows,) = np.nonzero(bucket_of_row == width)
            vectors, kept = segment.vectors(width), live[rows]
            try:
                buckets.add_rows(first + rows[kept], vectors if kept.all() else vectors[kept], width)
            except UsageError as error:
                damaged = f"vectors of width {width} in {segment.home}"
                raise DamagedError(f"expected sound {damaged}, got: {error}; `verify` lists what is damaged") from None
        tables.append(table)
        lives.append(live)
        first += len(live)
    tokens = StoredTokens(parts) if any(segment.record.token_bytes for segment in parts) else None
    return Gallery(Catalog(catalog.join(tables), np.concatenate(lives)), buckets, tokens)
