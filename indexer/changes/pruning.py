"""What has vanished from its source: rows of an index that a source gave once, and does not give any more.

A folder owns the pictures in it and below it; a table or an archive owns what lies in it, and the files that it was
the one to list. A folder that is excluded now is no part of its source. A picture that is still there but cannot be
read has not vanished, nor has anything of a folder, table or archive that could not be read to its end, or behind a
link that leads nowhere.

A disk that is not mounted looks like pictures that were deleted. So a loss that is more likely that is an error, and
nothing is taken for vanished: a source that gives nothing at all; or `MANY` pictures or more gone at once, if no more
than that are left, or if the folders that they were in are there and empty, as a mount point is.
"""

import os
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from pathlib import Path

from indexer import corpus
from indexer.changes.known_rows import Known
from indexer.sources.urls import is_url
from retrieval.errors import SourceError

MANY = 100
"""Pictures that are missed when they go at once; fewer are soon indexed again."""


def vanished(
    source: str | Path,
    known: Mapping[str, Known],
    seen: Mapping[str, str],
    unread: Collection[str],
    num_given: int,
    *,
    is_sure: bool = False,
) -> list[str]:
    """The ids of the rows that `source` gave once and, now that it gave `num_given` pictures, not any more.

    `seen` are the uris by id that this run has met in all its sources; `unread` the uris of what could not be read.
    Raises `SourceError` for a loss that is more likely a disk which is not there, unless `is_sure`.
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
    if not is_sure and (doubt := _doubt(source, [known[image_id].uri for image_id in ids], num_given)):
        raise SourceError(f"{doubt}; is it mounted? To take them out all the same, use --prune-all (prune='all')")
    return ids


def _doubt(source: str | Path, uris: list[str], num_given: int) -> str | None:
    """Why what is gone may be there all the same; None where nothing speaks for it."""
    if uris and not num_given:
        expected = f"expected pictures in {source} to tell by what has vanished"
        return f"{expected}, found none, where the index has {len(uris)} from there"
    if len(uris) < MANY:
        return None
    if len(uris) >= num_given:
        return f"expected most pictures of {source} to be there still, got {num_given}, and {len(uris)} gone"
    num_below, folder = _below_empty_folders(uris)
    if num_below >= MANY:
        return f"expected pictures in {folder}, got an empty folder, and {num_below} pictures gone below such"
    return None


def _below_empty_folders(uris: Iterable[str]) -> tuple[int, Path | None]:
    """How many pictures were in or below folders that are empty now, and one of these folders."""
    empty_folder = cache(_empty_folder)
    num, found = 0, None
    for uri in uris:
        if not is_url(uri) and (folder := empty_folder(Path(uri).parent)) is not None:
            num, found = num + 1, folder
    return num, found


def _empty_folder(folder: Path) -> Path | None:
    """The folder, or the first one above it that is there, if nothing is in it."""
    try:
        with os.scandir(folder) as entries:
            return None if any(entries) else folder
    except FileNotFoundError:
        return None if folder == folder.parent else _empty_folder(folder.parent)
    except OSError:
        return None


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
