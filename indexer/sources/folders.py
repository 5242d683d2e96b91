"""Pictures of a folder and all folders below it."""

import os
from collections.abc import Collection, Iterator
from pathlib import Path

from indexer.sources.file_names import refuse_odd_name, shown
from indexer.sources.item import PARENT, Item
from retrieval.errors import ImageError
from retrieval.images import IMAGE_SUFFIXES


def read(root: Path, label_from: str | None, exclude_dirs: Collection[str]) -> Iterator[Item]:
    """The image files below `root`; `label_from` is "parent" or None."""
    for path, problem in walk(root, exclude_dirs):
        yield file_item(path, path.relative_to(root).as_posix(), root.name, label_from, problem)


def walk(root: Path, exclude_dirs: Collection[str]) -> Iterator[tuple[Path, str | None]]:
    """Image files below `root`, a folder's own before its folders', by name; and what is wrong with any."""
    waiting, visited = [root], set()
    while waiting:
        folder = waiting.pop()
        try:
            about = folder.stat()
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            yield folder, f"expected a folder that can be read, got: {error.strerror}"
            continue
        if (about.st_dev, about.st_ino) in visited:  # a link that leads back up, or to what was seen already
            continue
        visited.add((about.st_dev, about.st_ino))
        folders = []
        for entry in entries:
            if entry.name.startswith("."):
                continue
            # The entry's own answers cost nothing, but raise where links go in circles.
            linked = entry.is_symlink()
            if os.path.isdir(entry.path) if linked else entry.is_dir():
                if entry.name not in exclude_dirs:
                    folders.append(Path(entry.path))
            elif os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES:
                is_file = os.path.isfile(entry.path) if linked else entry.is_file()
                yield Path(entry.path), None if is_file else "expected a file, got a broken link or a device"
        waiting.extend(reversed(folders))


def file_item(path: Path, item_id: str, source: str, label_from: str | None, problem: str | None = None) -> Item:
    """The image file `path`, with a `problem` where its name cannot be kept."""
    uri = str(path)
    try:
        refuse_odd_name(uri)
    except ImageError as error:
        problem = str(error)
        item_id, uri = shown(item_id), shown(uri)
    label = path.parent.name if label_from == PARENT and problem is None else None
    return Item(id=item_id, uri=uri, source=source, path=path, label=label, problem=problem)
