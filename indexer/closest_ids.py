"""What somebody may have meant who named an id that is none."""

from difflib import get_close_matches
from pathlib import PurePath

import pyarrow as pa
import pyarrow.compute as pc

from indexer.unicode_text import is_unicode

_MOST_COMPARED = 20_000


def closest(name: str, ids: pa.ChunkedArray) -> str:
    """The end of a sentence, "; the closest is …" or "are …": those of the `ids` most like `name`; "" for none."""
    alike = ids.filter(pc.match_substring(ids, PurePath(name).stem, ignore_case=True)) if is_unicode(name) else ids
    candidates = (alike if len(alike) else ids).slice(0, _MOST_COMPARED).to_pylist()
    found = get_close_matches(name, candidates, n=3, cutoff=0.4)
    return f"; the closest {'is' if len(found) == 1 else 'are'} {', '.join(map(repr, found))}" if found else ""
