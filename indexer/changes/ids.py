"""Under which id a picture is kept: an id stays with the place it came from."""

from collections.abc import Mapping
from itertools import chain, count

from indexer import corpus
from indexer.changes.known_rows import Known
from indexer.sources.item import Item


def free_id(item: Item, known: Mapping[str, Known], seen: Mapping[str, str]) -> str | None:
    """The id under which to keep a picture: its own, or one with its source before it; None if this run had it already.

    `seen` are the uris of this run by id. An id that another place has is free once nothing is left at that place.
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
        is_in_same = corpus.container(holder.uri) == corpus.container(item.uri)
        if free is None and (is_in_same or corpus.is_gone(holder.uri)):
            free = candidate
