"""What is said where hits were to be grouped, and there was nothing to group them by."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ui.printing import plain

if TYPE_CHECKING:
    from indexer import Hit


def grouping_note(hits: "Iterable[Hit]", column: str | None) -> str | None:
    """One line where hits were grouped by a `column` in which none of them has a value; None else."""
    values = [hit.label if column == "label" else hit.columns.get(column, "") for hit in hits]
    if column is None or not values or any(plain(value) is not None for value in values):
        return None
    return f"nothing is grouped: none of the hits has a value in the column {column}"
