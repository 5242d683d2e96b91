"""Pictures of a remote folder, and all folders below it, where the protocol can list one."""

from collections.abc import Collection, Iterator
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from indexer.sources.item import PARENT, Item
from indexer.sources.remote import filesystem, patiently, reason_of
from indexer.sources.urls import path_of
from retrieval.images import IMAGE_SUFFIXES

_MOST_DEPTH = 64


def read(url: str, label_from: str | None, exclude_dirs: Collection[str]) -> Iterator[Item]:
    """The image files below `url`; `label_from` is "parent" or None."""
    root = url.rstrip("/")
    about, source = path_of(root), path_of(root).name or urlsplit(url).netloc
    for place, problem in walk(root, exclude_dirs):
        path = path_of(place)
        yield Item(
            id=path.relative_to(about).as_posix(),
            uri=place,
            source=source,
            label=path.parent.name if label_from == PARENT and problem is None else None,
            problem=problem,
        )


def walk(root: str, exclude_dirs: Collection[str]) -> Iterator[tuple[str, str | None]]:
    """URLs of image files below `root`, a folder's own before its folders', by name; and what is wrong with any."""
    system, start = filesystem(root)
    system.invalidate_cache()
    waiting, visited = [(root, 0)], {root}
    while waiting:
        folder, depth = waiting.pop()
        try:
            entries = patiently(partial(_listed, system, folder))
        except Exception as error:  # each protocol has errors of its own
            yield f"{folder}/", f"expected a folder that can be listed, got: {reason_of(error)}"
            continue
        folders = []
        for name, is_folder in entries:
            place = f"{root}{name[len(start.rstrip('/')) :]}".rstrip("/")
            own = path_of(place).name
            if own.startswith(".") or place in visited:
                continue
            visited.add(place)
            if not is_folder:
                if path_of(place).suffix.lower() in IMAGE_SUFFIXES:
                    yield place, None
            elif own not in exclude_dirs and depth < _MOST_DEPTH:
                folders.append((place, depth + 1))
        waiting.extend(reversed(folders))


def _listed(system: Any, folder: str) -> list[tuple[str, bool]]:
    """What lies right in a folder: its name in full, and whether it is a folder."""
    path = system._strip_protocol(folder)
    # A server lists its folders on a page: with the slash it is the page that names them, without it may be none.
    entries = system.ls(f"{path.rstrip('/')}/", detail=True)
    return sorted((entry["name"], entry["type"] == "directory") for entry in entries)
