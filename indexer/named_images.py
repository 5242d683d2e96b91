"""Which images of an index are meant by what people call them: an id, or the path of a picture, which is its uri."""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable

import pyarrow as pa
import pyarrow.compute as pc

from indexer.unicode_text import is_unicode

Images = Callable[[str], pa.ChunkedArray]
"""A column of the catalog, "id" or "uri", of the live images, in their order; read when it is asked for."""


class NamedImages:
    """Looks `names` up among the `images` in one pass over the ids, and one over the uris only if some are no ids."""

    def __init__(self, images: Images, names: Iterable[str]):
        self._ids: set[str] = set()
        self._ids_by_uri: dict[str, list[str]] = defaultdict(list)
        names = set(names)
        if not names:
            return
        ids = images("id")
        self._ids |= {*ids.filter(pc.is_in(ids, _texts(names))).to_pylist()}
        others = names - self._ids
        if others:
            uris = images("uri")
            is_meant = pc.is_in(uris, _texts(others | {os.path.abspath(name) for name in others}))
            for uri, image_id in zip(uris.filter(is_meant).to_pylist(), ids.filter(is_meant).to_pylist(), strict=True):
                self._ids_by_uri[uri].append(image_id)

    def ids_of(self, name: str) -> list[str]:
        """The ids that one of the names stands for: itself, where it is one, or those of its uri, in their order."""
        if name in self._ids:
            return [name]
        return next((self._ids_by_uri[uri] for uri in (name, os.path.abspath(name)) if uri in self._ids_by_uri), [])


def _texts(names: set[str]) -> pa.Array:
    return pa.array([name for name in names if is_unicode(name)], pa.string())
