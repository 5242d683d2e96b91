"""Structured filters: a rule for each column, as plain values, compared by Arrow; no text is ever parsed."""

import math
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from retrieval.errors import UsageError

OPERATORS = ("eq", "ne", "gt", "gte", "lt", "lte", "in", "not_in", "contains", "starts_with", "exists")
"""What a rule may say of a column's values."""

_ORDERS = {"gt": pc.greater, "gte": pc.greater_equal, "lt": pc.less, "lte": pc.less_equal}


def holds(where: Mapping[str, Any], num_rows: int, column: Callable[[str], pa.Array]) -> np.ndarray:
    """For which of the rows all rules hold, (num_rows,) bool; a rule is as in `Index.search`. Raises `UsageError`.

    `column` gives the values (num_rows,) of a column by its name, and raises where there is none.
    """
    kept = np.ones(num_rows, dtype=bool)
    for name, rule in where.items():
        values = _Column(name, column(name))
        for operator, value in _parts(name, rule):
            kept &= values.where(operator, value)
    return kept


def _parts(name: str, rule: Any) -> list[tuple[str, Any]]:
    """A rule as operators and their values: a value is to be equal, a list holds the values that it may be."""
    if isinstance(rule, Mapping):
        if not rule:
            raise UsageError(f"expected a rule for {name!r}, got an empty one; leave the column out, or name a value")
        return list(rule.items())
    return [("in", rule)] if isinstance(rule, list | tuple | set | frozenset | np.ndarray) else [("eq", rule)]


class _Column:
    """A column's values as what can be compared: a number that is none counts as no value."""

    def __init__(self, name: str, values: pa.Array):
        self._name = name
        if pa.types.is_dictionary(values.type):
            values = values.cast(values.type.value_type)
        if pa.types.is_floating(values.type):
            values = pc.if_else(pc.is_nan(values), None, values)
        self._values = values
        self._kind = _kind_of(values.type)

    def where(self, operator: str, value: Any) -> np.ndarray:
        """For which rows the operator holds, (N,) bool: never for one without a value, save with "ne" and "not_in"."""
        if operator not in OPERATORS:
            known = ", ".join(OPERATORS)
            raise UsageError(f"expected an operator for {self._name!r}, one of {known}, got {operator!r}")
        if operator == "exists":
            return self._exists(value)
        if operator in ("in", "not_in"):
            if not isinstance(value, list | tuple | set | frozenset | np.ndarray):
                raise self._unlike(operator, "a list of values", value)
            is_in = self._is_in(list(value))
            return is_in if operator == "in" else ~is_in
        if operator in ("eq", "ne"):
            is_equal = self._is_in([value])
            return is_equal if operator == "eq" else ~is_equal
        if operator == "contains" and self._kind == "list":
            return self._list_contains(value)
        if operator in ("contains", "starts_with"):
            if self._kind != "text" or not isinstance(value, str):
                raise self._unlike(operator, "text, for a column of text", value)
            match = pc.match_substring if operator == "contains" else pc.starts_with
            return _true(match(self._values, value))
        if self._kind not in ("text", "number", "date", "time"):
            raise UsageError(f"expected a column with an order for {operator!r}, got {self._name!r}, which has none")
        values, (bound,) = self._comparable([value], operator)
        return _true(_ORDERS[operator](values, pa.scalar(bound, values.type)))

    def _exists(self, value: Any) -> np.ndarray:
        if not isinstance(value, bool):
            raise self._unlike("exists", "true or false", value)
        return _true(pc.is_valid(self._values) if value else pc.is_null(self._values))

    def _is_in(self, values: list[Any]) -> np.ndarray:
        wanted = [value for value in values if not _is_nothing(value)]
        found = np.zeros(len(self._values), bool)
        if wanted:
            comparable, wanted = self._comparable(wanted, "in")
            found |= _true(pc.is_in(comparable, pa.array(wanted, comparable.type)))
        return found | self._exists(False) if len(wanted) < len(values) else found

    def _list_contains(self, value: Any) -> np.ndarray:
        parents = pc.list_parent_indices(self._values).to_numpy()
        inner = _Column(self._name, pc.list_flatten(self._values))
        found = np.zeros(len(self._values), bool)
        found[parents[inner.where("eq", value)]] = True
        return found

    def _comparable(self, values: list[Any], operator: str) -> tuple[pa.Array, list[Any]]:
        """The column and some values as numbers, texts or truths of one type."""
        convert = _CONVERTERS.get(self._kind)
        if convert is None:
            raise UsageError(f"expected a column of plain values to compare, got {self._name!r}; use 'exists'")
        expected, of_value = convert
        try:
            wanted = [of_value(value.item() if isinstance(value, np.generic) else value) for value in values]
        except (TypeError, ValueError, OverflowError):
            culprit = next(value for value in values if not _converts(value, of_value))
            raise self._unlike(operator, expected, culprit) from None
        if self._kind == "number":
            is_whole = pa.types.is_integer(self._values.type) and all(isinstance(value, int) for value in wanted)
            return self._values.cast(pa.int64() if is_whole else pa.float64(), safe=False), wanted
        if self._kind == "time":
            return self._values.cast(pa.timestamp("us", self._values.type.tz), safe=False).cast(pa.int64()), wanted
        return self._values.cast({"text": pa.string(), "truth": pa.bool_(), "date": pa.date32()}[self._kind]), wanted

    def _unlike(self, operator: str, expected: str, value: Any) -> UsageError:
        return UsageError(f"expected {expected} for {operator!r} of {self._name!r}, got {value!r}")


def _kind_of(kind: pa.DataType) -> str:
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind):
        return "text"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "number"
    if pa.types.is_boolean(kind):
        return "truth"
    if pa.types.is_date(kind):
        return "date"
    if pa.types.is_timestamp(kind):
        return "time"
    return "list" if pa.types.is_list(kind) or pa.types.is_large_list(kind) else "other"


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value.encode("utf-8", "replace").decode()  # of a name that is no text there can be no row


def _number(value: Any) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise TypeError
    return value if isinstance(value, int) and abs(value) < 2**63 else float(value)


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _date(value: Any) -> date:
    if isinstance(value, datetime):
        raise TypeError
    return value if isinstance(value, date) else date.fromisoformat(value)


def _microseconds(value: Any) -> int:
    """Since 1970, in UTC where nothing else is said."""
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


_CONVERTERS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "text": ("text", _text),
    "number": ("a number", _number),
    "truth": ("true or false", _truth),
    "date": ("a date such as 2025-01-31", _date),
    "time": ("a time such as 2025-01-31T12:00:00", _microseconds),
}


def _converts(value: Any, of_value: Callable[[Any], Any]) -> bool:
    try:
        of_value(value.item() if isinstance(value, np.generic) else value)
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def _is_nothing(value: Any) -> bool:
    return value is None or isinstance(value, float | np.floating) and math.isnan(value)


def _true(answers: pa.Array) -> np.ndarray:
    return pc.fill_null(answers, False).to_numpy(zero_copy_only=False)
