"""Under which id a picture is kept: an id stays with the place it came from."""

import os
from collections.abc import Mapping
from itertools import chain, count

from indexer import corpus
from indexer.changes.known_rows import Known
from indexer.sources.item import Item


def free_id(
    item: Item, known: Mapping[str, Known], seen: Mapping[str, str], *, may_have_moved: bool = True
) -> str | None:
    """The id under which to keep a picture: its own, or one with its source before it; None if this run had it already.

    `seen` are the uris of this run by id. An id that another place has is free once nothing is left at that place. Of
    a disk that is not mounted nothing is left either: unless the picture `may_have_moved` from there, as one of the
    same bytes has, the file must be missing from a folder that is there.
    """
    prefixed = f"{item.source}/{item.id}"
    free = None
    for candidate in chain((item.id, prefixed), (f"{prefixed}~{number}" for number in count(2))):
        if seen.get(candidate) == item.uri:
            return None
        if candidate in seen:
            continue
        holder = known.get(candidate)
        if holder is None:
            return free or candidate
        if holder.uri == item.uri:
            return candidate
        is_left = corpus.is_gone if may_have_moved else _was_deleted
        if free is None and (is_in_place_of(item, holder) or is_left(holder.uri)):
            free = candidate


def is_in_place_of(item: Item, holder: Known) -> bool:
    """Whether a picture comes from where the holder of its id does: the same file, table or archive, or list."""
    if item.listed_in is not None and item.listed_in == holder.listed_in:
        return True
    return corpus.container(holder.uri) == corpus.container(item.uri)


def _was_deleted(uri: str) -> bool:
    """Whether nothing is left of a picture's file, but something of the folder that it was in."""
    if not corpus.is_gone(uri):
        return False
    try:
        with os.scandir(os.path.dirname(corpus.container(uri))) as entries:
            return any(entries)
    except OSError:
        return False
