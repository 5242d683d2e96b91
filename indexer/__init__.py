"""Spyglass, the part that knows disks: a corpus, the index folder, FAISS, and the search over them."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from indexer.changes.add_tokens import TokensReport
    from indexer.index import Index
    from indexer.ingest import AddReport
    from indexer.searching.hits import Hit
    from indexer.searching.pictures import EncodedPicture, ImageId

__all__ = ["AddReport", "EncodedPicture", "Hit", "ImageId", "Index", "TokensReport"]

_HOMES = {
    "AddReport": "indexer.ingest",
    "EncodedPicture": "indexer.searching.pictures",
    "Hit": "indexer.searching.hits",
    "ImageId": "indexer.searching.pictures",
    "Index": "indexer.index",
    "TokensReport": "indexer.changes.add_tokens",
}


def __getattr__(name: str):
    # Loaded on first use: importing the package must cost nothing.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'indexer' has no attribute {name!r}")
