"""The catalog: rows as a table, tables below each other, and conditions in SQL."""

from datetime import date

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.catalog import SCHEMA, Catalog, Row, join, table_of
from retrieval.errors import UsageError


def row(number: int, label: str | None = None, **columns) -> Row:
    return Row(
        id=f"{number}.png",
        uri=f"/photos/{number}.png",
        sha256="00" * 32,
        width=64,
        height=48,
        num_bytes=1000 + number,
        dim=40 + number,
        bucket=64,
        label=label,
        columns=columns,
    )


def test_rows_become_columns_in_the_contract_s_order():
    table = table_of([row(1, "cat", price=2.5), row(2, None, place="Paris")])
    assert table.column_names == [*SCHEMA.names, "price", "place"]
    assert table.slice(1, 1).to_pylist() == [
        {
            "id": "2.png",
            "uri": "/photos/2.png",
            "sha256": "00" * 32,
            "width": 64,
            "height": 48,
            "bytes": 1002,
            "dim": 42,
            "bucket": 64,
            "label": None,
            "price": None,
            "place": "Paris",
        }
    ]


def test_a_column_that_the_catalog_has_itself_is_renamed():
    assert table_of([row(1, width="wide", ID=7)]).column_names[-2:] == ["source_width", "source_ID"]


def test_mixed_values_are_kept_as_text():
    assert table_of([row(1, code=7), row(2, code="7b"), row(3)])["code"].to_pylist() == ["7", "7b", None]
    assert table_of([row(1, code=2**80)])["code"].to_pylist() == [str(2**80)]


def test_tables_of_different_columns_and_types_are_joined():
    parts = [[row(1, a=1, b=1, c=True)], [row(2, a=2.5, b="x")], [row(3, c=None)]]
    table = join(map(table_of, parts))
    assert table["id"].to_pylist() == ["1.png", "2.png", "3.png"]
    assert table["a"].to_pylist() == [1.0, 2.5, None]
    assert table["b"].to_pylist() == ["1", "x", None]
    assert table["c"].to_pylist() == [True, None, None]
    assert join([]).num_rows == 0


def catalog_of(rows: list[Row]) -> Catalog:
    return Catalog(join([table_of(rows)]), np.ones(len(rows), dtype=bool))


def test_where_by_hand():
    days = [date(2024, 1, 1), date(2024, 6, 1), None]
    catalog = catalog_of(
        [row(n, label, day=day) for n, label, day in zip(range(3), ["a", "b", None], days, strict=True)]
    )
    assert catalog.where("label = 'b'").tolist() == [1]
    assert catalog.where("label IS NULL OR dim < 41").tolist() == [0, 2]
    assert catalog.where("day > '2024-03-01'").tolist() == [1]
    assert catalog.where("id LIKE '%.png' AND NOT (dim BETWEEN 41 AND 42)").tolist() == [0]
    assert catalog.where("true").dtype == np.int64 and catalog.where("false").tolist() == []


def test_where_leaves_out_the_deleted():
    catalog = Catalog(table_of([row(n) for n in range(4)]), np.array([True, False, True, False]))
    assert catalog.where("dim >= 41").tolist() == [2]
    assert catalog.live_rows()["id"].to_pylist() == ["0.png", "2.png"]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.none() | st.integers(-5, 5), max_size=50), st.integers(-5, 5))
def test_where_is_what_a_loop_finds(values, bound):
    catalog = catalog_of([row(number, x=value) for number, value in enumerate(values)] + [row(99, x=0)])
    expected = [n for n, value in enumerate([*values, 0]) if value is not None and value > bound]
    assert catalog.where(f"x > {bound}").tolist() == expected


@pytest.mark.parametrize(
    "condition",
    [
        "id IN (SELECT id FROM read_csv('{file}'))",
        "id IN (SELECT content FROM read_text('{file}'))",
        "id IN (SELECT id FROM '{file}')",
        "EXISTS (FROM catalog)",
        "dim > (SELECT max(range) FROM range(10))",
        "true; DROP TABLE catalog",
        "true; COPY catalog TO '{out}'",
        "true) UNION ALL SELECT (true",
        "true FROM catalog",
        "true LIMIT 1",
        "true, false",
        "SET threads = 1",
        "COPY catalog TO '{out}'",
        "current_setting('threads')",
        "getenv('HOME') = '/root'",
        "read_text('{file}') = 'x'",
        "sum(dim) > 1",
        "COLUMNS(*) = 'x'",
        "dim",
        "dim = ?",
        "no_such_column = 1",
        "label / 0 = 'x",
        "label = 1",
        "",
        "--",
        "\0",
    ],
)
def test_anything_but_one_condition_on_the_columns_is_refused(condition, tmp_path):
    (tmp_path / "secret.csv").write_text("id\n1.png\n")
    out = tmp_path / "out.csv"
    with pytest.raises(UsageError, match="^expected .*condition") as raised:
        catalog_of([row(1, "x")]).where(condition.format(file=tmp_path / "secret.csv", out=out))
    assert "\n" not in str(raised.value) and not out.exists()


def test_tables_of_no_rows_take_conditions_too():
    assert Catalog(join([]), np.zeros(0, dtype=bool)).where("dim > 3").tolist() == []
    assert isinstance(join([]), pa.Table)


def test_values_and_rows_by_hand():
    tables = [table_of([row(1, price=2.5), row(2)]), table_of([row(3, price=4.0), row(2, "again")])]
    catalog = Catalog(join(tables), np.array([True, False, True, True]))
    for _ in range(2):
        assert catalog.values("dim", np.array([3, 0, 3])).to_pylist() == [42, 41, 42]
        assert catalog.values("price", np.array([2, 1])).to_pylist() == [4.0, None]
    assert catalog.values("id", np.empty(0, np.int64)).to_pylist() == []
    assert catalog.find(["2.png", "3.png", "none.png"]) == {"2.png": 3, "3.png": 2}
    assert catalog.find([]) == {} and Catalog(join([]), np.empty(0, bool)).find(["1.png"]) == {}
