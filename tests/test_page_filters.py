"""Filters out of a catalog's columns: what there is to choose from, and only sound rules."""

import numpy as np
import pyarrow as pa
import pytest

from indexer.column_summary import ColumnSummary, summary
from ui.page.filters import MOST_CHOICES, Choice, Range, allowed, filters_of

CATALOG = pa.table(
    {
        "id": ["a", "b", "c"],
        "uri": ["/a", "/b", "/c"],
        "sha256": ["0", "1", "2"],
        "bucket": [32, 64, 64],
        "width": [10, 20, 30],
        "height": [5, 5, 5],
        "label": ["dog", "Ant", None],
        "price": [1.5, None, 2.5],
        "great": [2**60, 1, 1],
        "none": pa.nulls(3, pa.string()),
        "is_new": [True, False, True],
        "nested": [["x"], ["y"], None],
        "infinite": [np.inf, 1.0, 2.0],
    }
)


def columns_of(table: pa.Table) -> list[ColumnSummary]:
    return [summary(name, table[name], most_values=MOST_CHOICES) for name in table.column_names]


def test_a_filter_for_each_column_that_gives_one():
    assert filters_of(columns_of(CATALOG)) == [
        Choice(column="label", values=("Ant", "dog")),
        Range(column="price", low=1.5, high=2.5, is_whole=False),
        Choice(column="is_new", values=(False, True)),
        Range(column="infinite", low=1.0, high=2.0, is_whole=False),
        Range(column="width", low=10, high=30, is_whole=True),
    ]


def test_too_many_values_are_none_to_choose_from():
    names = [f"{number:03d}" for number in range(MOST_CHOICES + 1)]
    assert filters_of(columns_of(pa.table({"label": names}))) == []
    assert len(filters_of(columns_of(pa.table({"label": names[1:]})))) == 1
    assert filters_of(columns_of(CATALOG.slice(0, 0))) == []


def test_rules():
    label, price, *_, width = filters_of(columns_of(CATALOG))
    assert label.rule([]) is None and label.rule(["dog"]) == ["dog"]
    assert price.rule((1.5, 2.5)) is None and price.rule((1.5, 2.0)) == {"lte": 2.0}
    assert width.rule((11, 29)) == {"gte": 11, "lte": 29}


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"label": ["dog", "cow"]}, {"label": ["dog"]}),
        ({"label": ["cow"]}, {}),
        ({"label": {"gte": 3}}, {}),
        ({"nothing": ["dog"], "bucket": [32]}, {}),
        ({"width": {"gte": 15}}, {"width": {"gte": 15}}),
        ({"width": {"gte": 0, "lte": 15}}, {"width": {"lte": 15}}),
        ({"width": {"gte": 25, "lte": 15}}, {}),
        ({"width": ["dog"]}, {}),
        ({"price": {"lte": 99}}, {}),
        ({"price": {"lte": 2}}, {"price": {"lte": 2.0}}),
    ],
)
def test_only_sound_rules_are_allowed(asked, expected):
    assert allowed(filters_of(columns_of(CATALOG)), asked) == expected
