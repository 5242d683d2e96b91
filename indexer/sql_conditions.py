"""Conditions in SQL: one expression over the catalog's columns, of comparisons and plain functions, run in a sandbox.

What may stand in one is listed here, and all else is refused before anything runs: so a new version of DuckDB, with
functions that nobody thought of, opens no door. The sandbox is a second wall behind that: no files, no extensions, and
its settings are locked before the user's text is seen.
"""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from indexer.unicode_text import is_unicode
from retrieval.errors import UsageError
from retrieval.nearest_name import nearest

if TYPE_CHECKING:
    import duckdb

TABLE = "catalog"
"""The name of the table that a condition is about, for those who write it before a column's."""

ROW = "__row"
"""The name of the column that numbers the rows, which no other may have."""

FUNCTIONS = frozenset(
    "+ - * / // % ** ^ || & | ~ @ abs ceil ceiling floor round trunc sign sqrt cbrt exp ln log log2 log10 pow power "
    "mod least greatest isnan isinf isfinite nullif if "
    "~~ !~~ ~~* !~~* ~~~ like_escape not_like_escape ilike_escape not_ilike_escape regexp_matches regexp_full_match "
    "regexp_extract regexp_replace lower lcase upper ucase length len strlen contains prefix suffix starts_with "
    "ends_with trim ltrim rtrim substring substr left right replace reverse concat position instr strpos split_part "
    "strip_accents nfc_normalize levenshtein jaccard jaro_similarity jaro_winkler_similarity "
    "year quarter month week day dayofweek isodow dayofyear hour minute second epoch epoch_ms epoch_us date_part "
    "datepart date_trunc datetrunc date_diff datediff date_sub datesub date_add last_day make_date make_timestamp "
    "strftime strptime try_strptime age to_years to_months to_weeks to_days to_hours to_minutes to_seconds dayname "
    "monthname list_contains list_has list_has_any list_has_all array_contains array_has list_value list_position "
    "array_length".split()
)
"""The functions and operators that a condition may use, by DuckDB's names."""

_CLASSES = frozenset(("COMPARISON", "CONJUNCTION", "BETWEEN", "CASE", "CAST", "TYPE", "COLLATE", "CONSTANT"))
_OPERATORS = frozenset(
    ("OPERATOR_NOT", "OPERATOR_IS_NULL", "OPERATOR_IS_NOT_NULL", "OPERATOR_COALESCE", "OPERATOR_TRY")
    + ("COMPARE_IN", "COMPARE_NOT_IN", "ARRAY_EXTRACT", "ARRAY_SLICE", "STRUCT_EXTRACT")
)
_MOMENTS = frozenset(("current_date", "current_timestamp"))
_EMPTY = ("where_clause", "having", "qualify", "sample", "modifiers", "group_expressions", "group_sets")
_opening = threading.Lock()
_SANDBOX = {
    "enable_external_access": "false",
    "autoload_known_extensions": "false",
    "autoinstall_known_extensions": "false",
    "python_enable_replacements": "false",
    "temp_directory": "",
    "memory_limit": "1GB",
    "lock_configuration": "true",
}


def rows_where(condition: str, num_rows: int, names: Sequence[str], column: Callable[[str], pa.Array]) -> np.ndarray:
    """The numbers (N,) int64, rising, of the rows for which the condition holds; raises `UsageError`.

    `names` are those of the columns that there are, of which `column` gives the values, (num_rows,), where they are
    spoken of.
    """
    import duckdb

    if not is_unicode(condition):
        raise _refused("one that is no text", condition)
    if not condition.strip():
        raise _refused("an empty one", condition)
    with _sandbox() as sandbox:
        try:
            used = {name: column(name) for name in _columns_of(sandbox, condition, names)}
            sandbox.register(TABLE, pa.table(used | {ROW: np.arange(num_rows, dtype=np.int64)}))
            expression = duckdb.SQLExpression(condition)
            catalog = sandbox.table(TABLE)
            kinds = [str(kind) for kind in catalog.select(expression).types]
            if kinds != ["BOOLEAN"]:
                raise UsageError(f"expected a condition that is true or false, got {condition!r}; compare a column")
            numbers = catalog.filter(expression).select(ROW).fetchnumpy()[ROW]
        except duckdb.Error as error:
            raise _failed(condition, names, str(error)) from None
    return np.sort(np.asarray(numbers, dtype=np.int64))


def _sandbox() -> "duckdb.DuckDBPyConnection":
    """A connection of its own, which sees what is registered with it alone, to the one database of this process."""
    with _opening:
        return _database().cursor()


@cache
def _database() -> "duckdb.DuckDBPyConnection":
    import duckdb

    # The doors are shut and the key is thrown away before any user's text is seen.
    return duckdb.connect(":memory:", config=_SANDBOX)


def _columns_of(sandbox: "duckdb.DuckDBPyConnection", condition: str, columns: Sequence[str]) -> list[str]:
    """The columns that a condition speaks of; DuckDB only parses it for that.

    Raises `UsageError` for anything but one expression of what is listed above.
    """
    import duckdb

    text = condition.encode()
    for start, kind in duckdb.tokenize(condition):
        if kind == duckdb.token_type.comment or text[start : start + 1] == b";":
            raise _refused("a comment" if kind == duckdb.token_type.comment else "the end of a statement", condition)
    ((answer,),) = sandbox.execute("SELECT json_serialize_sql(?)", [f"SELECT {condition}"]).fetchall()
    try:
        tree = json.loads(answer)
    except RecursionError:
        raise _refused("one that is nested too deep", condition) from None
    if tree["error"]:
        raise _failed(condition, columns, tree["error_message"])
    if len(tree["statements"]) != 1:
        raise _refused("several statements", condition)
    node = tree["statements"][0]["node"]
    is_bare = node["type"] == "SELECT_NODE" and node["from_table"]["type"] == "EMPTY" and not node["cte_map"]["map"]
    if not is_bare or len(node["select_list"]) != 1 or any(node.get(name) for name in _EMPTY):
        raise _refused("more than an expression", condition)
    used = set()
    for part in _parts(node["select_list"][0]):
        if part["class"] == "COLUMN_REF":
            used.add(_column_of(part["column_names"], condition, columns))
        elif problem := _problem(part):
            raise _refused(problem, condition)
    wanted = [name for name in columns if name.casefold() in used]
    for name in used:
        alike = [column for column in wanted if column.casefold() == name]
        if len(alike) > 1:
            reason = f"SQL does not tell upper from lower case, and there are {' and '.join(alike)}"
            raise _failed(condition, columns, f"{reason}; rename one, or filter by a mapping in Python or over HTTP")
    return wanted


def _column_of(path: Sequence[str], condition: str, columns: Sequence[str]) -> str:
    """The column, in lower case, that a name stands for: alone, after the table's, or before those of its fields."""
    first, *others = (name.casefold() for name in path)
    known = {name.casefold() for name in columns} | _MOMENTS
    if first not in known and first == TABLE and others:
        first = others[0]
    if first not in known:
        raise _failed(condition, columns, f"there is no column {'.'.join(path)!r}{_meant(path[-1], columns)}")
    return first


def _meant(name: str, columns: Sequence[str]) -> str:
    """The end of a sentence: the column like a name, and the text, since a word without single quotes is a column."""
    text = "the text '{}', in single quotes?".format(name.replace("'", "''"))
    column = nearest(name, columns)
    return f"; did you mean {'' if column is None else f'the column {column!r}, or '}{text}"


def _parts(node: Any) -> Iterator[dict[str, Any]]:
    """Every expression of a tree as DuckDB writes it."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            if "class" in node:
                yield node
            waiting += node.values()
        elif isinstance(node, list):
            waiting += node


def _problem(part: dict[str, Any]) -> str | None:
    """Why an expression is refused; None for one that may stand."""
    kind = part["class"]
    if kind == "FUNCTION":
        name = part["function_name"].lower()
        plain = name in FUNCTIONS and not (part.get("schema") or part.get("catalog") or part.get("filter"))
        return None if plain and not part.get("distinct") else f"the function {name!r}"
    if kind == "OPERATOR":
        return None if part["type"] in _OPERATORS else f"an operator {part['type']}"
    return None if kind in _CLASSES else f"a {kind.lower().replace('_', ' ')}"


def _failed(condition: str, columns: Sequence[str], reason: str) -> UsageError:
    reason = reason.splitlines()[0]
    return UsageError(f"expected an SQL condition over {', '.join(columns)}, got {condition!r}: {reason}")


def _refused(what: str, condition: str) -> UsageError:
    expected = "expected one SQL condition of columns, comparisons and plain functions"
    return UsageError(f"{expected}, got {what}: {condition!r}")
