"""Which filters the columns of a catalog give: a choice of values, or a range of numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from indexer.catalog import PLACES

if TYPE_CHECKING:
    from indexer.column_summary import ColumnSummary

MOST_CHOICES = 200
"""A column of text with more values than these is none to choose from."""

SIZES = ("width", "height", "bytes", "dim")
"""The catalog's own numbers, which are asked for less than what a source says of its pictures."""

_NEVER = ("id", "sha256", "bucket", *PLACES)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Some of the values of a column; they are in order."""

    column: str
    values: tuple[Any, ...]

    def rule(self, chosen: list[Any]) -> list[Any] | None:
        """The rule of a structured filter; None where nothing is chosen, which lets everything through."""
        return list(chosen) or None

    def chosen(self, where: Mapping[str, Any]) -> list[Any]:
        """What a filter has chosen of the values."""
        rule = where.get(self.column)
        return [value for value in rule if value in self.values] if isinstance(rule, list) else []


@dataclass(frozen=True, kw_only=True)
class Range:
    """Numbers from `low` to `high`, the least and the greatest of a column; whole ones or not."""

    column: str
    low: float
    high: float
    is_whole: bool

    def rule(self, ends: tuple[float, float]) -> dict[str, float] | None:
        """The rule of a structured filter; None for the whole range, which lets through what has no number, too."""
        bounds = {}
        if ends[0] > self.low:
            bounds["gte"] = ends[0]
        if ends[1] < self.high:
            bounds["lte"] = ends[1]
        return bounds or None

    def ends(self, where: Mapping[str, Any]) -> tuple[float, float]:
        """The range that a filter lets through, inside of the whole one."""
        rule = where.get(self.column)
        bounds = rule if isinstance(rule, dict) else {}
        kind = int if self.is_whole else float
        low, high = (min(max(kind(end), self.low), self.high) for end in self._bounds(bounds))
        return (low, high) if low <= high else (self.low, self.high)

    def _bounds(self, bounds: Mapping[str, float]) -> tuple[float, float]:
        return bounds.get("gte", self.low), bounds.get("lte", self.high)


def filters_of(columns: "Sequence[ColumnSummary]") -> list[Choice | Range]:
    """A filter for each column that has one to give: the label first, then the sources' columns, then sizes and dim."""
    by_name = {column.name: column for column in columns}
    names = [name for name in by_name if name not in (*_NEVER, *SIZES, "label")]
    found = (_filter_of(by_name[name]) for name in ("label", *names, *SIZES) if name in by_name)
    return [one for one in found if one is not None]


def allowed(filters: list[Choice | Range], where: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a filter, out of a URL perhaps, that concerns columns which can be filtered by; of sound values."""
    rules = {}
    for one in filters:
        rule = one.rule(one.chosen(where)) if isinstance(one, Choice) else one.rule(one.ends(where))
        if rule is not None:
            rules[one.column] = rule
    return rules


def _filter_of(column: "ColumnSummary") -> Choice | Range | None:
    if column.low != column.high:
        return Range(column=column.name, low=column.low, high=column.high, is_whole=column.is_whole)
    if column.values is not None and 2 <= len(column.values) <= MOST_CHOICES:
        values = sorted(column.values, key=lambda value: str(value).casefold())
        return Choice(column=column.name, values=tuple(values))
    return None
