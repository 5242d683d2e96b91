"""The metadata columns that a ranker reads: declared when it is trained, and what to do where a value is unknown."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from retrieval.errors import UsageError

MAX_CATEGORIES = 4096
"""Values of one column that are told apart; the rarer ones count as unknown."""


_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, kw_only=True)
class NumberColumn:
    """A column of numbers, standardised by what was seen in training."""

    name: str
    mean: float
    spread: float


@dataclass(frozen=True, kw_only=True)
class CategoryColumn:
    """A column of categories: the values seen in training."""

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class MetadataColumns:
    """The columns a ranker reads, in order; `encode` turns rows into what it takes."""

    numbers: tuple[NumberColumn, ...] = ()
    categories: tuple[CategoryColumn, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Of all columns: those of numbers, then those of categories."""
        return tuple(column.name for column in (*self.numbers, *self.categories))

    @property
    def category_sizes(self) -> tuple[int, ...]:
        """Codes of each category column: its values, and 0 for an unknown one."""
        return tuple(len(column.values) + 1 for column in self.categories)

    def encode(self, rows: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
        """Rows by column name to numbers (N, M) float32, NaN where unknown, and categories (N, C) int64, 0 there.

        Unknown is what is absent, None, NaN, no number where one is wanted or one beyond float32, or a category never
        seen in training.
        """
        numbers_NM = np.full((len(rows), len(self.numbers)), np.nan)
        categories_NC = np.zeros((len(rows), len(self.categories)), np.int64)
        codes = [{value: code for code, value in enumerate(column.values, 1)} for column in self.categories]
        for place, row in enumerate(rows):
            for m, column in enumerate(self.numbers):
                numbers_NM[place, m] = (_number(row.get(column.name)) - column.mean) / column.spread
            for c, column in enumerate(self.categories):
                categories_NC[place, c] = codes[c].get(_category(row.get(column.name)), 0)
        return numbers_NM.clip(-_LARGEST, _LARGEST).astype(np.float32), categories_NC

    @classmethod
    def fit(
        cls, rows: Sequence[Mapping[str, Any]], *, numbers: Sequence[str] = (), categories: Sequence[str] = ()
    ) -> "MetadataColumns":
        """Declare columns by the rows of training; raises `UsageError` for one that never holds a usable value."""
        return cls(
            numbers=tuple(_fit_number(name, [_number(row.get(name)) for row in rows]) for name in numbers),
            categories=tuple(_fit_category(name, [row.get(name) for row in rows]) for name in categories),
        )

    @classmethod
    def from_dict(cls, values: dict) -> "MetadataColumns":
        """Read what `dataclasses.asdict` made of one."""
        return cls(
            numbers=tuple(NumberColumn(**column) for column in values["numbers"]),
            categories=tuple(
                CategoryColumn(name=column["name"], values=tuple(column["values"])) for column in values["categories"]
            ),
        )


def _fit_number(name: str, values: list[float]) -> NumberColumn:
    known = np.array([value for value in values if not math.isnan(value)])
    if not len(known):
        raise UsageError(f"expected numbers in the column {name!r}, got none; declare it a category or leave it out")
    mean, spread = float(known.mean()), float(known.std())
    # Equal values may differ from their mean by a rounding error, which is no spread.
    return NumberColumn(name=name, mean=mean, spread=spread if spread > 1e-12 * abs(mean) else 1.0)


def _fit_category(name: str, values: list[Any]) -> CategoryColumn:
    known = [value for value in map(_category, values) if value is not None]
    if not known:
        raise UsageError(f"expected values in the column {name!r}, got none; check its name or leave it out")
    counts = Counter(known)
    most = sorted(counts, key=lambda value: (-counts[value], value))[:MAX_CATEGORIES]
    return CategoryColumn(name=name, values=tuple(sorted(most)))


def _category(value: Any) -> str | None:
    is_unknown = value is None or isinstance(value, float | np.floating) and math.isnan(value)
    return None if is_unknown else str(value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        return math.nan
    value = value.item() if isinstance(value, np.generic) else value
    # Compared before it is converted: an integer may lie beyond any float.
    return float(value) if -_LARGEST <= value <= _LARGEST else math.nan
