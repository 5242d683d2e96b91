"""Under which id a picture is kept: an id stays with the place it came from."""

from itertools import chain, count
from pathlib import Path
from typing import NamedTuple

from indexer import corpus, segments
from indexer.item import Item
from indexer.manifest import Manifest


class Known(NamedTuple):
    """What the index holds under an id."""

    uri: str
    sha256: str
    place: segments.Place


def read_known(folder: Path, state: Manifest) -> dict[str, Known]:
    """The live rows of an index by their ids; raises `DamagedError`."""
    known = {}
    for segment in segments.read(folder, state):
        table = segment.table(["id", "uri", "sha256", "dim", "bucket"])
        rows = zip(*table.to_pydict().values(), segment.live(table), strict=True)
        for number, (item_id, uri, sha256, dim, bucket, live) in enumerate(rows):
            if live:
                place = segments.Place(segment=segment.record.id, row=number, dim=dim, bucket=bucket)
                known[item_id] = Known(uri, sha256, place)
    return known


def free_id(item: Item, known: dict[str, Known], seen: dict[str, str]) -> str | None:
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
        home = corpus.container(holder.uri)
        if free is None and (home == corpus.container(item.uri) or not home.exists()):
            free = candidate
