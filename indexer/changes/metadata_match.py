"""Whether a source still says of a picture what the catalog has kept of its words."""

from collections.abc import Mapping
from typing import Any

from indexer.catalog import user_column
from indexer.sources.item import Item


def says_the_same(item: Item, label: str | None, columns: Mapping[str, Any]) -> bool:
    """Whether the row with this label and these columns, without those that are None, is what `item` would become."""
    now = {user_column(name): value for name, value in item.columns.items() if value is not None}
    return item.label == label and now.keys() == columns.keys() and all(_same(now[name], columns[name]) for name in now)


def _same(value: Any, kept: Any) -> bool:
    # A column that is text in one row and a number in another is kept as text; and NaN is not equal to itself.
    return value == kept or str(value) == str(kept)
