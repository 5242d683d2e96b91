"""An index as it is at one moment, with what the pages show of it, worked out when it is first needed."""

from functools import cached_property
from typing import TYPE_CHECKING

from ui.page.filters import Choice, Range, filters_of

if TYPE_CHECKING:
    import pandas as pd

    from indexer import Index
    from indexer.overview import Overview


class View:
    """One snapshot of an index; a new one makes a new view."""

    def __init__(self, index: "Index"):
        self.index = index

    @cached_property
    def catalog(self) -> "pd.DataFrame":
        """A row an image."""
        return self.index.catalog()

    @cached_property
    def filters(self) -> list[Choice | Range]:
        """What the columns can be filtered by."""
        return filters_of(self.catalog)

    @cached_property
    def overview(self) -> "Overview":
        """The figures of the corpus."""
        from indexer.overview import overview

        return overview(self.catalog)

    @cached_property
    def embedding_map(self) -> "pd.DataFrame":
        """Where the images lie beside each other."""
        return self.index.embedding_map()

    @cached_property
    def near_duplicates(self) -> list[tuple[str, str, float]]:
        """Pairs of images, by their ids, that are as good as the same, with how alike they are."""
        return []
