"""Small segments are put together as they pile up: an index that grows by a few images a day stays fast to open.

Each addition is a segment of its own. Once there are many small ones at the end of an index, they become one that is
not as small any more: first the smallest, later what came of them. Those that a large one comes after become one at
once. So a row is copied four times at most, ever, and large segments never are. What was put together stays on disk, as
earlier states name it, until `compact`.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from uuid import uuid4

from indexer import segments
from indexer.changes import compacting
from indexer.segments import Place
from indexer.storage import manifest
from indexer.storage.manifest import Manifest
from indexer.storage.records import TombstoneRecord

MANY = 16
"""Small segments that are put together."""

_log = logging.getLogger(__name__)

_SMALL = (MANY, MANY**2, MANY**3)  # rows below which a segment is small: the smallest, and those that came of such


def piled_up(state: Manifest) -> slice:
    """Which segments, neighbours all, are to become one; none most of the time."""
    sizes = [record.rows.num for record in state.segments]
    for bound in _SMALL:
        num = len([*takewhile(lambda size, bound=bound: size < bound, reversed(sizes))])
        if num >= MANY and sum(sizes[-num:]) >= bound:
            return slice(len(sizes) - num, len(sizes))
    return _left_behind(sizes)


def _left_behind(sizes: Sequence[int]) -> slice:
    """Small ones, of which there will be no more: a large one has come after them."""
    start = 0
    for place, size in enumerate(sizes):
        if size >= _SMALL[-1]:
            if place - start > 1:
                return slice(start, place)
            start = place + 1
    return slice(0, 0)


def tidy(folder: Path, state: Manifest) -> Manifest:
    """Publish the state that puts together what has piled up; returns it, or `state` where nothing has.

    The caller holds the lock, and has published `state`.
    """
    following = tidied(folder, state)
    if following is not state:
        manifest.publish(folder, following)
    return following


def tidied(folder: Path, state: Manifest) -> Manifest:
    """The state to follow, of the same images, in which what has piled up is one segment, written and synced.

    `state` itself where nothing has, or where something is damaged: that is left as it is, with a warning.
    """
    place = piled_up(state)
    small = state.segments[place]
    if not small:
        return state
    # Damage would be passed on under a new checksum.
    for name, file in replace(state, segments=small, tombstones=()).files():
        problem = file.problem(folder / name)
        if problem is not None:
            _log.warning("small segments are left as they are, for %s: %s; `verify` lists all damage", name, problem)
            return state
    written = compacting.put_together(folder, state, segments.read(folder, state)[place])
    return state.following(
        "merge",
        segments=(*state.segments[: place.start], *written, *state.segments[place.stop :]),
        tombstones=_without(folder, state, {record.id for record in small}),
    )


def _without(folder: Path, state: Manifest, gone: set[str]) -> tuple[TombstoneRecord, ...]:
    """The tombstones of an index whose segments `gone` are: those that speak of other ones too are written anew."""
    kept: list[TombstoneRecord] = []
    places: list[Place] = []
    for record in state.tombstones:
        rows = segments.read_tombstones(folder, record)
        others = [row for row in rows if row[0] not in gone]
        if len(others) == len(rows):
            kept.append(record)
        else:
            places += _places(folder, state, others)
    if places:
        kept.append(segments.write_tombstones(folder, f"{state.version + 1:06d}-{uuid4().hex[:8]}", places))
    return tuple(kept)


def _places(folder: Path, state: Manifest, rows: Sequence[tuple[str, int]]) -> list[Place]:
    tables = {
        record.id: segments.Segment(folder, record).table(["dim", "bucket"]).to_pydict()
        for record in state.segments
        if record.id in {segment for segment, _ in rows}
    }
    return [
        Place(segment=segment, row=row, dim=tables[segment]["dim"][row], bucket=tables[segment]["bucket"][row])
        for segment, row in rows
    ]
