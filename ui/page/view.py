"""An index as it is at one moment, with what the pages show of it, worked out when it is first needed."""

from functools import cached_property
from typing import TYPE_CHECKING

from ui.latest import Latest
from ui.page.filters import MOST_CHOICES, Choice, Range, filters_of

if TYPE_CHECKING:
    import pandas as pd

    from indexer import Index
    from indexer.overview import Overview
    from indexer.searching.near_duplicates import NearDuplicate


class View:
    """One snapshot of an index; a new one makes a new view."""

    def __init__(self, index: "Index"):
        self.index = index
        self._near_duplicates: Latest[list[list[NearDuplicate]]] = Latest(10)

    @property
    def num_images(self) -> int:
        """How many there are."""
        return self.index.info()["images"]

    @cached_property
    def filters(self) -> list[Choice | Range]:
        """What the columns can be filtered by."""
        return filters_of(self.index.columns(most_values=MOST_CHOICES))

    @cached_property
    def overview(self) -> "Overview":
        """The figures of the corpus."""
        return self.index.overview()

    @cached_property
    def embedding_map(self) -> "pd.DataFrame":
        """Where the images lie beside each other."""
        return self.index.embedding_map()

    def near_duplicates(self, threshold: float) -> "list[list[NearDuplicate]]":
        """Groups of images that are nearly the same, by `threshold` as in `Index.near_duplicates`."""
        return self._near_duplicates.get(threshold, lambda: self.index.near_duplicates(threshold))
