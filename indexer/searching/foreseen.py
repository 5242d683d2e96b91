"""What is wrong with a search and shows in the catalog alone: it is told at once, without FAISS, torch or a model."""

from collections.abc import Sequence
from typing import Any

from indexer.catalog import Catalog
from indexer.searching.grouping import Groups
from indexer.searching.picture_sources import PictureSources
from indexer.searching.search_config import SearchConfig
from indexer.storage.records import Model


def check(catalog: Catalog, model: Model, pictures: Sequence[Any], config: SearchConfig) -> None:
    """Raise what a search for these pictures would for its filter, its column of groups and names that are none."""
    if config.where is not None:
        catalog.where(config.where)
    if config.group_by is not None:
        Groups(config.group_by, catalog.column(config.group_by), config.group_size)
    PictureSources(catalog, model).check(pictures)
