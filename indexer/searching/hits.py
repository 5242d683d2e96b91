"""The answers to a query, as the user gets them."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from indexer.catalog import LISTED_IN, SCHEMA, Catalog
from indexer.names import Names

_OWN = {*SCHEMA.names, LISTED_IN}


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A picture that answers a query.

    `rank` counts from 1, on from page to page. `score` orders the hits: the inner product with the whole query, at most
    1, or once they were re-ranked a logit that compares the hits of one query alone, which goes on below the re-ranked
    ones as similarity falls. `similarity` is the cosine over the hit's own `dim` numbers, 1.0 for the same
    picture. `columns` are the source's own, as values that JSON knows. `similarity_rank` is the place that it had by
    similarity, from 1, None where nothing was re-ranked. `names` are the other ids of the same picture, in order: exact
    duplicates are one hit.
    """

    rank: int
    id: str
    uri: str
    score: float
    similarity: float
    dim: int
    label: str | None
    columns: dict[str, Any]
    similarity_rank: int | None = None
    names: tuple[str, ...] = ()


def hits_of(
    catalog: Catalog,
    vector: np.ndarray,
    numbers: np.ndarray,
    *,
    first_rank: int = 1,
    scores: np.ndarray,
    products: np.ndarray,
    similarity_ranks: np.ndarray | None = None,
    names: Names,
    matching: np.ndarray | None = None,
) -> list[Hit]:
    """The rows `numbers` (K,) of the catalog, best first, from `first_rank` on: their `scores`, `products` with the
    query `vector` (D,), and the places that they had before re-ranking, (K,) each.

    A picture with several `names` is shown by the first of those whose rows are `matching` (M,), rising; None: all are.
    """
    lengths = np.sqrt(np.cumsum(vector.astype(np.float64) ** 2))  # of all its prefixes
    places = [None] * len(numbers) if similarity_ranks is None else similarity_ranks.tolist()
    hits = []
    shown = names.shown(numbers, matching)
    found = zip(shown.tolist(), catalog.rows(shown), scores.tolist(), products.tolist(), places, strict=True)
    for rank, (number, row, score, product, place) in enumerate(found, start=first_rank):
        length = float(lengths[row["dim"] - 1])
        hits.append(
            Hit(
                rank=rank,
                id=row["id"],
                uri=row["uri"],
                score=score,
                # Vectors stored as float16 may come out a trifle too long.
                similarity=max(-1.0, min(1.0, product / length)) if length > 0 else 0.0,
                dim=row["dim"],
                label=row["label"],
                columns={name: _plain(value) for name, value in row.items() if name not in _OWN},
                similarity_rank=place,
                names=names.others(number),
            )
        )
    return hits


def _plain(value: Any) -> Any:
    """A value as JSON knows it: dates, durations and decimals as text, what is no number as None."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)
