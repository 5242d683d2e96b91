"""What somebody may have meant who named an id that is none."""

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import PurePath

import pyarrow as pa
import pyarrow.compute as pc

from indexer.unicode_text import is_unicode

_MOST_COMPARED = 20_000


def closest(name: str, ids: pa.ChunkedArray) -> str:
    """The end of a sentence, "; the closest is …" or "are …": those of the `ids` most like `name`; "" for none."""
    first = ids[:_MOST_COMPARED].to_pylist()
    namesakes = []
    if is_unicode(name):
        is_one = pc.match_substring(ids, PurePath(name).stem, ignore_case=True)
        namesakes = ids.filter(is_one)[:_MOST_COMPARED].to_pylist()
    # What has the name in it comes first, unless its path is quite another one.
    tries = ((namesakes, 0.6), (first, 0.6), (namesakes, 0.4))
    found = next(filter(None, (_like(name, some, cutoff=cutoff) for some, cutoff in tries)), [])
    return f"; the closest {'is' if len(found) == 1 else 'are'} {', '.join(map(repr, found))}" if found else ""


def _like(name: str, ids: Sequence[str], *, cutoff: float) -> list[str]:
    """Those of the ids most like a name, endings left out: `.jpg` makes no two pictures alike."""
    by_stem: dict[str, list[str]] = {}
    for image_id in ids:
        by_stem.setdefault(_without_ending(image_id), []).append(image_id)
    stems = get_close_matches(_without_ending(name), by_stem, n=3, cutoff=cutoff)
    return [image_id for stem in stems for image_id in by_stem[stem]][:3]


def _without_ending(name: str) -> str:
    return name.removesuffix(PurePath(name).suffix)
