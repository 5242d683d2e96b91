"""What there is in a column of a catalog: its values where they are few, the least and the greatest of its numbers."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_GREATEST = 2**53 - 1  # beyond it a double does not hold whole numbers exactly, and no browser


@dataclass(frozen=True, kw_only=True)
class ColumnSummary:
    """One column, `num_values` of whose rows have a value.

    `values` are those of a column of text or truth, in order of their coming; None where there are too many, and for
    other columns. `low` and `high` are the least and the greatest of a column of numbers, `is_whole` whether they
    are whole; None where there is none, or the column holds something else. What is no number, infinite, or too great
    to be exact is passed over.
    """

    name: str
    num_values: int
    values: tuple[Any, ...] | None = None
    low: float | None = None
    high: float | None = None
    is_whole: bool = False


def summary(name: str, column: pa.ChunkedArray, *, most_values: int) -> ColumnSummary:
    """What is in a column; `values` only where there are at most `most_values`."""
    kind = column.type
    known = column.drop_null()
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        # Piece by piece, so that one more of them is all that is held in memory.
        ends = [end for chunk in known.chunks for end in _ends(chunk.to_numpy(zero_copy_only=False))]
        low, high = (min(ends), max(ends)) if ends else (None, None)
        return ColumnSummary(
            name=name, num_values=len(known), low=low, high=high, is_whole=bool(pa.types.is_integer(kind))
        )
    values = None
    if pa.types.is_boolean(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind):
        unique = pc.unique(known)
        values = tuple(unique.to_pylist()) if len(unique) <= most_values else None
    return ColumnSummary(name=name, num_values=len(known), values=values)


def _ends(numbers: np.ndarray) -> list[float]:
    exact = numbers[np.abs(numbers.astype(np.float64)) <= _GREATEST]
    return [exact.min().item(), exact.max().item()] if len(exact) else []
