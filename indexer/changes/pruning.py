"""What has vanished from its source: rows of an index that a source gave once, and does not give any more.

A folder owns the pictures in it and below it; a table or an archive owns what lies in it, and the files that it was
the one to list. A folder that is excluded now is no part of its source. A picture that is still there but cannot be
read has not vanished, nor has anything of a folder, table or archive that could not be read to its end, or behind a
link that leads nowhere. A source that gives nothing at all is more likely not there (a disk that is not mounted) than
emptied: nothing is taken for vanished from it, that is an error.
"""

import os
from collections.abc import Collection, Mapping
from pathlib import Path

from indexer import corpus
from indexer.changes.known_rows import Known
from indexer.sources.urls import is_url
from retrieval.errors import SourceError


def vanished(
    source: str | Path, known: Mapping[str, Known], seen: Mapping[str, str], unread: Collection[str], num_given: int
) -> list[str]:
    """The ids of the rows that `source` gave once and, now that it gave `num_given` pictures, not any more.

    `seen` are the uris by id that this run has met in all its sources; `unread` the uris of what could not be read.
    Raises `SourceError` where it gave none.
    """
    root = location(source)
    seen_uris = {*seen.values()}
    ids = [
        image_id
        for image_id, row in known.items()
        if image_id not in seen
        and _owns(root, row)
        and not (row.listed_in is None and corpus.container(row.uri) == row.uri and row.uri in seen_uris)
        and not _is_unread(row, unread)
    ]
    if ids and not num_given:
        raise SourceError(
            f"expected pictures in {source} to tell by what has vanished, found none, where the index has {len(ids)} "
            "from there; is it mounted? To take them out all the same, remove them by their ids or a condition"
        )
    return ids


def location(source: str | Path) -> str:
    """Where a source is, in the way that its pictures' uris begin."""
    return str(source) if is_url(str(source)) else os.path.abspath(source)


def _owns(root: str, row: Known) -> bool:
    if row.listed_in is not None:
        return row.listed_in == root
    if row.uri.startswith(f"{root}#"):
        return True
    return row.uri.startswith(root.rstrip("/") + "/") and corpus.container(row.uri) == row.uri


def _is_unread(row: Known, unread: Collection[str]) -> bool:
    folders = [*map(str, Path(row.uri).parents)]
    if not is_url(row.uri) and any(os.path.islink(folder) and not os.path.exists(folder) for folder in folders):
        return True
    homes = (row.uri, row.listed_in, corpus.container(row.uri), *folders)
    is_below = is_url(row.uri) and any(row.uri.startswith(place) for place in unread if place.endswith("/"))
    return is_below or any(home in unread for home in homes)
