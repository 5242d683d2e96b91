"""Filters of a search, structured and in SQL: the rows they let through, the hits they leave, and what is refused."""

import math
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from toy import ToyEmbedder, png
from toy_rankers import weighing

from indexer import Index
from indexer.catalog import Catalog
from indexer.conditions import holds
from retrieval.errors import UsageError

NUM = 120
QUERY = png(5000)


def columns(rng: np.random.Generator) -> dict[str, list]:
    """Of every type that a table may have, with gaps."""

    def some(values: list) -> list:
        return [None if rng.random() < 0.15 else value for value in values]

    return {
        "label": some([str(rng.choice(["cat", "dog", "Cat's", "bird%"])) for _ in range(NUM)]),
        "stock": some(rng.integers(-3, 8, NUM).tolist()),
        "price": some([math.nan if rng.random() < 0.1 else float(x) for x in rng.normal(10, 4, NUM).round(1)]),
        "sold": some(rng.choice([True, False], NUM).tolist()),
        "day": some([date(2024, 1 + int(m), 1 + int(m) % 28) for m in rng.integers(0, 12, NUM)]),
        "note": some([f"note {'x' * int(n)}" for n in rng.integers(0, 5, NUM)]),
        "seen": some([datetime(2024, 5, 1, int(h), tzinfo=UTC) for h in rng.integers(0, 24, NUM)]),
    }


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> Index:
    """A hundred and twenty pictures of a table, in two segments; every tenth is there no more."""
    folder = tmp_path_factory.mktemp("filters")
    table = pa.table({"image": [png(seed) for seed in range(NUM)], **columns(np.random.default_rng(1))})
    index = Index.create(folder / "p.index", ToyEmbedder(), dtype="float32")
    for start in (0, NUM // 2):
        pq.write_table(table.slice(start, NUM // 2), folder / f"{start}.parquet")
        index.add(folder / f"{start}.parquet", num_workers=0)
    index.remove([name for row, name in enumerate(index.catalog()["id"]) if row % 10 == 3])
    return index


@pytest.fixture(scope="module")
def rows(index) -> list[dict]:
    """The live rows, as plain values, in order of their likeness to the query."""
    catalog = index._open_gallery().catalog
    by_id = {row["id"]: row for row in catalog.live_rows().to_pylist()}
    return [by_id[hit.id] for hit in index.search(QUERY, top_k=NUM, rerank=0)]


def is_nothing(value) -> bool:
    return value is None or isinstance(value, float) and math.isnan(value)


def lets_through(rule, value) -> bool:
    """The plain meaning of a rule."""
    if not isinstance(rule, dict):
        rule = {"in": rule} if isinstance(rule, list) else {"eq": rule}
    nothing = is_nothing(value)
    meaning = {
        "eq": lambda v: nothing if is_nothing(v) else not nothing and value == v,
        "ne": lambda v: not meaning["eq"](v),
        "in": lambda vs: any(meaning["eq"](v) for v in vs),
        "not_in": lambda vs: not meaning["in"](vs),
        "gt": lambda v: not nothing and value > v,
        "gte": lambda v: not nothing and value >= v,
        "lt": lambda v: not nothing and value < v,
        "lte": lambda v: not nothing and value <= v,
        "contains": lambda v: not nothing and v in value,
        "starts_with": lambda v: not nothing and value.startswith(v),
        "exists": lambda v: nothing != v,
    }
    return all(meaning[operator](v) for operator, v in rule.items())


def random_rule(rng: np.random.Generator, name: str, rows: list[dict]):
    """One that is made of the values that there are, so that it lets something through as often as not."""

    def drawn():
        values = [row[name] for row in rows if not is_nothing(row[name])]
        return values[rng.integers(len(values))]

    kind = rng.integers(8)
    if kind == 0:
        return None if rng.random() < 0.5 else {"ne": None}
    if kind == 1:
        return drawn()
    if kind == 2:
        return [drawn() for _ in range(rng.integers(0, 4))] + [None] * int(rng.integers(0, 2))
    if kind == 3:
        return {"not_in": [drawn() for _ in range(rng.integers(0, 4))]}
    if kind == 4:
        return {"ne": drawn()}
    if name == "sold":
        return {"exists": bool(rng.integers(2))}
    if kind == 5 and isinstance(drawn(), str):
        return {str(rng.choice(["contains", "starts_with"])): drawn()[: int(rng.integers(1, 9))]}
    bounds = {str(rng.choice(["gt", "gte"])): drawn()} if rng.random() < 0.6 else {}
    return bounds | ({str(rng.choice(["lt", "lte"])): drawn()} if not bounds or rng.random() < 0.5 else {})


def quoted(value) -> str:
    if isinstance(value, bool | int | float):
        return str(value)
    if isinstance(value, datetime):
        return f"TIMESTAMPTZ '{value.isoformat()}'"
    if isinstance(value, date):
        return f"DATE '{value}'"
    return "'" + value.replace("'", "''") + "'"


def as_sql(where: dict) -> str:
    """The same filter as a condition in SQL."""
    orders = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}

    def one(x: str, operator: str, v) -> str:
        if operator == "exists":
            return f"{x} IS {'NOT ' if v else ''}NULL"
        if operator in ("ne", "not_in"):
            return f"NOT ({one(x, {'ne': 'eq', 'not_in': 'in'}[operator], v)})"
        if operator == "eq":
            return f"{x} IS NULL" if v is None else f"coalesce({x} = {quoted(v)}, false)"
        if operator == "in":
            return " OR ".join(["false", *(f"({one(x, 'eq', value)})" for value in v)])
        if operator == "contains":
            return f"contains({x}, {quoted(v)})"
        return f"starts_with({x}, {quoted(v)})" if operator == "starts_with" else f"{x} {orders[operator]} {quoted(v)}"

    parts = []
    for name, rule in where.items():
        # To DuckDB NaN is the greatest number; to a filter it is none.
        x = "CASE WHEN isnan(price) THEN NULL ELSE price END" if name == "price" else name
        if not isinstance(rule, dict):
            rule = {"in": rule} if isinstance(rule, list) else {"eq": rule}
        parts += [f"({one(x, operator, value)})" for operator, value in rule.items()]
    return " AND ".join(parts)


def random_filters(rows: list[dict], num: int, seed: int) -> list[dict]:
    rng = np.random.default_rng(seed)
    names = [*columns(rng), "width", "dim", "id"]
    return [
        {str(name): random_rule(rng, str(name), rows) for name in rng.choice(names, rng.integers(1, 4), replace=False)}
        for _ in range(num)
    ]


def test_two_hundred_random_filters_leave_what_a_plain_scan_leaves(index, rows):
    (query,) = index.encode_pictures([QUERY])
    filters = random_filters(rows, 200, seed=7) + [{"id": row["id"]} for row in rows[:5]]
    nums = []
    for number, where in enumerate(filters):
        expected = [row["id"] for row in rows if all(lets_through(rule, row[name]) for name, rule in where.items())]
        nums.append(len(expected))
        top_k = (1, 7, NUM)[number % 3]
        for form in (where, as_sql(where)):
            hits = index.search(query, top_k=top_k, rerank=0, where=form)
            assert [hit.id for hit in hits] == expected[:top_k], form
            assert [hit.id for hit in index.search(query, offset=4, rerank=0, where=form)] == expected[4:14], form
    assert {0, 1, 2, 3} <= {*nums} and max(nums) > NUM / 2 and sum(num == 1 for num in nums) >= 10


def test_a_filter_leaves_a_ranker_enough(index, rows):
    for where in random_filters(rows, 20, seed=8):
        kept = [row["id"] for row in rows if all(lets_through(rule, row[name]) for name, rule in where.items())]
        hits = index.search(QUERY, top_k=NUM, rerank=9, ranker=weighing(product=-1), where=where)
        assert [hit.id for hit in hits] == kept[:9][::-1] + kept[9:]


TABLE = pa.table(
    {
        "kind": pa.array(["a", None, "b"]).dictionary_encode(),
        "cost": pa.array([Decimal("1.10"), Decimal("2.00"), None]),
        "when": pa.array([datetime(2024, 1, 1, 12), datetime(2024, 1, 2), None]),
        "far": pa.array([2**53, 2**53 + 1, None]),
        "blob": pa.array([b"x", None, b""]),
        "sizes": pa.array([[1, 2], [], None]),
    }
)


def rows_of(where: dict) -> list[bool]:
    return holds(where, 3, Catalog(TABLE, np.ones(3, bool)).column).tolist()


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({}, [True, True, True]),
        ({"kind": "a"}, [True, False, False]),
        ({"kind": {"ne": "a"}}, [False, True, True]),
        ({"cost": {"gt": 1.1}}, [False, True, False]),
        ({"cost": [Decimal("1.10"), 2]}, [True, True, False]),
        ({"cost": np.float64(2)}, [False, True, False]),
        ({"cost": {"lt": 10**30}}, [True, True, False]),
        ({"when": {"gte": "2024-01-01T12:00:00Z", "lt": date(2024, 1, 2)}}, [True, False, False]),
        ({"when": datetime(2024, 1, 1, 12)}, [True, False, False]),
        ({"far": 2**53 + 1}, [False, True, False]),
        ({"far": float("nan")}, [False, False, True]),
        ({"blob": {"exists": False}}, [False, True, False]),
        ({"sizes": {"contains": 2}}, [True, False, False]),
        ({"kind": {"in": []}}, [False, False, False]),
        ({"kind": {"not_in": ("a", None)}}, [False, False, True]),
        ({"kind": {"gte": "a", "lt": "b"}, "far": {"exists": True}}, [True, False, False]),
        ({"kind": "\udcff"}, [False, False, False]),
    ],
)
def test_rules_by_hand(where, expected):
    assert rows_of(where) == expected


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"knid": "a"}, r"expected a column, one of kind, cost, .*, got 'knid'; did you mean 'kind'\?"),
        ({3: "a"}, "expected a column, one of kind, .*, got 3"),
        ({"kind": {"equals": "a"}}, "expected an operator for 'kind', one of eq, ne, .*, got 'equals'"),
        ({"kind": {}}, "expected a rule for 'kind', got an empty one"),
        ({"kind": 3}, "expected text for 'in' of 'kind', got 3"),
        ({"kind": {"gt": None}}, "expected text for 'gt' of 'kind', got None"),
        ({"kind": {"in": "ab"}}, "expected a list of values for 'in' of 'kind', got 'ab'"),
        ({"kind": {"contains": 3}}, "expected text, for a column of text for 'contains' of 'kind', got 3"),
        ({"kind": {"exists": 1}}, "expected true or false for 'exists' of 'kind', got 1"),
        ({"cost": "2"}, "expected a number for 'in' of 'cost', got '2'"),
        ({"cost": {"gt": True}}, "expected a number for 'gt' of 'cost', got True"),
        ({"cost": [1, 10**400]}, "expected a number for 'in' of 'cost', got 10000"),
        ({"cost": {"contains": "2"}}, "expected text, for a column of text for 'contains' of 'cost', got '2'"),
        ({"when": {"gt": "spring"}}, "expected a time such as 2025-01-31T12:00:00 for 'gt' of 'when', got 'spring'"),
        ({"blob": b"x"}, "expected a column of plain values to compare, got 'blob'; use 'exists'"),
        ({"sizes": {"gt": 1}}, "expected a column with an order for 'gt', got 'sizes', which has none"),
        ({"sizes": {"contains": "x"}}, "expected a number for 'in' of 'sizes', got 'x'"),
    ],
)
def test_rules_that_say_nothing(where, message):
    with pytest.raises(UsageError, match=message) as raised:
        rows_of(where)
    assert "\n" not in str(raised.value)


def test_what_is_neither_sql_nor_rules(index):
    for where in (3, ["label"], b"true"):
        with pytest.raises(UsageError, match="expected a condition in SQL, or a mapping of columns to rules, got"):
            index.search(QUERY, where=where)


HOSTILE = [
    "true; DELETE FROM catalog",
    "true;",
    "id = 'é雪';",
    "true -- and so on",
    "true /* and */ AND true",
    "id = 'x' OR 1 = 1) --",
    "EXISTS (SELECT 1)",
    "dim > (SELECT 1)",
    "dim = ANY ([1, 2])",
    "dim IN (SELECT range FROM range(3))",
    "id IN (FROM read_csv('/etc/passwd'))",
    "read_text('/etc/passwd') IS NULL",
    "read_blob('/etc/passwd') IS NULL",
    "glob('/*') IS NULL",
    "getenv('HOME') = '/root'",
    "current_setting('threads') = 4",
    "getvariable('x') IS NULL",
    "current_user = 'duckdb'",
    "pg_sleep(5) IS NULL",
    "query('SELECT 1') IS NULL",
    "query_table('catalog') IS NULL",
    "nextval('s') = 1",
    "random() < 0.5",
    "error('x') IS NULL",
    "write_log('x') IS NULL",
    "repeat('x', 1000000000) = id",
    "len(range(100000000)) > dim",
    "list_sum(range(1000000000)) > dim",
    "list_filter([1], lambda x: x > 0) = [1]",
    "[x FOR x IN [1, 2]] = [1]",
    "count(*) > 0",
    "sum(dim) > 0",
    "row_number() OVER () = 1",
    "COLUMNS(*) IS NULL",
    "unnest([true, false])",
    "dim = $1",
    "#1 = 1",
    "__row = 0",
    "rowid = 0",
    "main.lower(id) = 'x'",
    "system.main.read_text('/etc/passwd') IS NULL",
    "true FROM catalog",
    "true UNION SELECT true",
    "true WHERE true",
    "true ORDER BY 1",
    "true LIMIT 1",
    "DISTINCT true",
    "true, true",
    "PRAGMA database_list",
    "ATTACH 'x.db'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET threads = 1",
    "COPY catalog TO '/tmp/x.csv'",
    "EXPORT DATABASE '/tmp/x'",
    "CREATE TABLE x AS FROM catalog",
    "CALL pragma_version()",
    "IMPORT DATABASE '/tmp/x'",
    "nosuchcolumn = 1",
    "id = '\udcff'",
    "(" * 5000 + "true" + ")" * 5000,
    "NOT " * 3000 + "true",
]


@pytest.mark.parametrize("condition", HOSTILE, ids=[condition[:30] for condition in HOSTILE])
def test_sql_that_is_more_than_a_condition_is_refused(condition, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    catalog = Catalog(pa.table({"id": ["a", "b"], "dim": [1, 2]}), np.ones(2, bool))
    with pytest.raises(UsageError, match="^expected .*condition") as raised:
        catalog.where(condition)
    assert "\n" not in str(raised.value) and not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("id = '--' OR id = '/*'", []),
        ("id = 'a;b'", []),
        ("catalog.id = 'a' AND \"dim\" = 1", [0]),
        ("ID ILIKE 'A' ESCAPE '!'", [0]),
        ("regexp_matches(id, '^[b-z]$') AND dim % 2 = 0 AND -dim < 0", [1]),
        ("CASE WHEN dim > 1 THEN true ELSE false END", [1]),
        ("dim::VARCHAR IN ('1', '3') AND try_cast(id AS INT) IS NULL", [0]),
        ("dim BETWEEN 2 AND 3 AND dim IS NOT NULL AND NOT dim = 1", [1]),
        ("length(id || 'x') = 2 AND id NOT LIKE '%b'", [0]),
        ("day > DATE '2024-01-15' AND year(day) = 2024 AND day < current_date", [1]),
        ("list_contains(tags, 'x') AND tags[1] = 'x' AND len(tags) = 1", [0]),
    ],
)
def test_sql_that_is_a_condition_is_not(condition, expected):
    days, tags = [date(2024, 1, 1), date(2024, 2, 1)], [["x"], []]
    catalog = Catalog(pa.table({"id": ["a", "b"], "dim": [1, 2], "day": days, "tags": tags}), np.ones(2, bool))
    assert catalog.where(condition).tolist() == expected


@pytest.mark.parametrize(
    ("condition", "hint"),
    [
        ("Widht >= 100", "'Widht'; did you mean the column 'Width', or the text 'Widht', in single quotes?"),
        ("label = boats", "'boats'; did you mean the text 'boats', in single quotes?"),
        ('label = "it\'s"', "\"it's\"; did you mean the text 'it''s', in single quotes?"),
        (
            "catalog.lable = 'a'",
            "'catalog.lable'; did you mean the column 'label', or the text 'lable', in single quotes?",
        ),
    ],
)
def test_sql_with_a_column_that_is_none_says_what_was_meant(condition, hint):
    catalog = Catalog(pa.table({"id": ["a"], "Width": [1], "label": ["b"]}), np.ones(1, bool))
    with pytest.raises(UsageError) as raised:
        catalog.where(condition)
    assert str(raised.value).endswith(f"there is no column {hint}")


def test_threads_do_not_see_each_other_s_tables():
    catalogs = [Catalog(pa.table({"id": ["a", "b"], "dim": [n, n + 1]}), np.ones(2, bool)) for n in range(32)]
    with ThreadPoolExecutor(8) as threads:
        found = threads.map(lambda n: catalogs[n].where(f"dim = {n + 1} AND id = 'b'").tolist(), range(32))
        assert list(found) == [[1]] * 32


def test_columns_that_differ_in_case_alone_are_not_mistaken_for_each_other(tmp_path):
    table = pa.table({"image": [png(1), png(2)], "Colour": ["red", "blue"], "colour": ["blue", "red"]})
    pq.write_table(table, tmp_path / "shop.parquet")
    index = Index.create(tmp_path / "p.index", ToyEmbedder(), dtype="float32")
    index.add(tmp_path / "shop.parquet", num_workers=0)
    for condition in ("colour = 'blue'", "COLOUR = 'red' AND width > 1"):
        with pytest.raises(UsageError, match="and there are Colour and colour; rename one, or filter by a mapping"):
            index.search(png(1), where=condition)
    assert [hit.id for hit in index.search(png(1), where={"colour": "blue"}, rerank=0)] == ["0"]
    assert [hit.id for hit in index.search(png(1), where={"Colour": "blue"}, rerank=0)] == ["1"]
    assert len(index.search(png(1), where="width >= 1", rerank=0)) == 2
