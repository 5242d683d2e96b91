"""The columns a ranker reads: standardised numbers, coded categories, and every way not to know a value."""

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.errors import UsageError
from retrieval.reranking import metadata
from retrieval.reranking.metadata import CategoryColumn, MetadataColumns, NumberColumn

ROWS = [
    {"price": 10, "colour": "red"},
    {"price": 30.0, "colour": "blue"},
    {"price": None, "colour": "red"},
    {"colour": None},
]


def test_by_hand():
    columns = MetadataColumns.fit(ROWS, numbers=["price"], categories=["colour"])
    assert columns.numbers == (NumberColumn(name="price", mean=20.0, spread=10.0),)
    assert columns.categories == (CategoryColumn(name="colour", values=("blue", "red")),)
    assert columns.category_sizes == (3,)
    numbers_NM, categories_NC = columns.encode(ROWS)
    np.testing.assert_array_equal(numbers_NM, np.array([[-1], [1], [np.nan], [np.nan]], np.float32))
    assert categories_NC.tolist() == [[2], [1], [2], [0]]
    assert numbers_NM.dtype == np.float32 and categories_NC.dtype == np.int64


@pytest.mark.parametrize("value", [None, math.nan, np.float32("nan"), math.inf, -math.inf, "12", True, np.True_, [1]])
def test_what_is_no_number_is_unknown(value):
    columns = MetadataColumns.fit(ROWS, numbers=["price"])
    assert np.isnan(columns.encode([{"price": value}])[0]).all()


@pytest.mark.parametrize("value", [1e300, -1e300, 1e39, np.float64(1e200), 10**400, -(10**400)])
def test_numbers_too_large_are_unknown(value):
    columns = MetadataColumns.fit([*ROWS, {"price": value}], numbers=["price"])
    assert columns.numbers == (NumberColumn(name="price", mean=20.0, spread=10.0),)
    assert np.isnan(columns.encode([{"price": value}])[0]).all()
    with pytest.raises(UsageError, match="^expected numbers in the column 'price', got none"):
        MetadataColumns.fit([{"price": value}], numbers=["price"])


def test_the_largest_numbers_stay_finite():
    largest = float(np.finfo(np.float32).max)
    rows = [{"a": largest}, {"a": -largest}, {"a": largest}]
    columns = MetadataColumns.fit(rows, numbers=["a"])
    assert columns.encode(rows)[0].ravel() == pytest.approx([2**-0.5, -(2**0.5), 2**-0.5])
    narrow = MetadataColumns.fit([{"a": 0.0}, {"a": 1e-9}], numbers=["a"])
    assert narrow.encode(rows)[0].ravel().tolist() == [largest, -largest, largest]


@pytest.mark.parametrize("value", [10, 10.0, np.int64(10), np.float32(10), np.float16(10)])
def test_numbers_of_every_kind(value):
    columns = MetadataColumns.fit(ROWS, numbers=["price"])
    assert columns.encode([{"price": value}])[0].tolist() == [[-1]]


@pytest.mark.parametrize("value", [None, math.nan, np.float64("nan"), "green", "red\0", "Red", "", 3])
def test_categories_never_seen_are_unknown(value):
    columns = MetadataColumns.fit(ROWS, categories=["colour"])
    assert columns.encode([{"colour": value}])[1].tolist() == [[0]]


def test_a_value_that_is_called_as_what_is_unknown():
    rows = [{"colour": "None"}, {"colour": "nan"}, {"colour": None}, {"colour": math.nan}, {}]
    columns = MetadataColumns.fit(rows, categories=["colour"])
    assert columns.categories[0].values == ("None", "nan")
    assert columns.encode(rows)[1].ravel().tolist() == [1, 2, 0, 0, 0]


def test_categories_need_not_be_text():
    columns = MetadataColumns.fit([{"year": 2001}, {"year": 1999}, {"year": False}], categories=["year"])
    rows = [{"year": 1999}, {"year": "2001"}, {"year": False}, {"year": 2000}]
    assert columns.encode(rows)[1].ravel().tolist() == [1, 2, 3, 0]


@pytest.mark.parametrize("value", [5, 0.1, 0.0, -7.3e6])
def test_a_column_of_one_number_has_a_spread_of_one(value):
    columns = MetadataColumns.fit([{"size": value}] * 7, numbers=["size"])
    assert columns.numbers[0].spread == 1
    assert columns.encode([{"size": value + 2}])[0] == pytest.approx(2, rel=1e-6)


def test_the_rarest_of_too_many_categories_count_as_unknown(monkeypatch):
    monkeypatch.setattr(metadata, "MAX_CATEGORIES", 2)
    rows = [{"tag": tag} for tag in "abbcccd"]
    columns = MetadataColumns.fit(rows, categories=["tag"])
    assert columns.categories[0].values == ("b", "c")
    assert columns.encode(rows)[1].ravel().tolist() == [0, 1, 1, 2, 2, 2, 0]


def test_no_columns_and_no_rows():
    none = MetadataColumns.fit(ROWS)
    assert none == MetadataColumns() and none.category_sizes == ()
    assert [values.shape for values in none.encode(ROWS)] == [(4, 0), (4, 0)]
    columns = MetadataColumns.fit(ROWS, numbers=["price"], categories=["colour"])
    assert [values.shape for values in columns.encode([])] == [(0, 1), (0, 1)]


anything = st.one_of(st.none(), st.booleans(), st.floats(width=32), st.integers(-(10**6), 10**6), st.text(max_size=3))


@given(rows=st.lists(st.fixed_dictionaries({}, optional={"a": anything, "b": anything}), max_size=12))
@settings(deadline=None, max_examples=50)
def test_encoded_numbers_are_standardised_and_codes_name_their_values(rows):
    rows = [*rows, {"a": 1.5, "b": "b"}]
    columns = MetadataColumns.fit(rows, numbers=["a"], categories=["b"])
    numbers_NM, categories_NC = columns.encode(rows)
    known = numbers_NM[~np.isnan(numbers_NM)]
    assert abs(known.mean(dtype=float)) < 1e-3 and known.std(dtype=float) < 1 + 1e-3
    for row, code in zip(rows, categories_NC[:, 0], strict=True):
        value = row.get("b")
        is_known = not (value is None or value != value)
        assert (code > 0) == is_known
        if is_known:
            assert columns.categories[0].values[code - 1] == str(value)


def test_it_is_read_back_from_json():
    columns = MetadataColumns.fit(ROWS, numbers=["price"], categories=["colour"])
    assert MetadataColumns.from_dict(json.loads(json.dumps(asdict(columns)))) == columns


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"numbers": ["colour"]}, "^expected numbers in the column 'colour', got none; declare it a category or leave"),
        ({"numbers": ["width"]}, "^expected numbers in the column 'width', got none"),
        ({"categories": ["size"]}, "^expected values in the column 'size', got none; check its name or leave it out$"),
    ],
)
def test_a_column_without_a_usable_value_is_told(settings, message):
    with pytest.raises(UsageError, match=message):
        MetadataColumns.fit(ROWS, **settings)
