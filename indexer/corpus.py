"""Where pictures come from: folders, image files, tables (.parquet, .csv) and archives (.tar); one at a time."""

import os
import re
import tarfile
from collections.abc import Collection, Iterator
from pathlib import Path

from indexer import archives, folders, tables
from indexer.image_files import MAX_IMAGE_BYTES, read_file
from indexer.item import PARENT, Item
from retrieval.errors import ImageError, SourceError, UsageError
from retrieval.images import IMAGE_SUFFIXES

__all__ = ["MAX_IMAGE_BYTES", "PARENT", "Item", "container", "count", "is_gone", "read", "read_image"]

_READERS = {".parquet": tables.read_parquet, ".csv": tables.read_csv, ".tar": archives.read}
_IN_PARQUET = re.compile(r"(?P<file>.+\.parquet)#(?P<place>\d+)", re.IGNORECASE | re.DOTALL)
_IN_TAR = re.compile(r"(?P<file>.+?\.tar)#(?P<place>.+)", re.IGNORECASE | re.DOTALL)


def read(source: str | Path, *, label_from: str | None = None, exclude_dirs: Collection[str] = ()) -> Iterator[Item]:
    """The pictures of a folder, an image file, a .parquet, .csv or .tar, in a fixed order and without holding them all.

    `label_from` is `"parent"` or a column; by default a column `label` where there is one. Folders named in
    `exclude_dirs`, and hidden files and folders, are skipped. Raises `SourceError` or `UsageError` at once.
    """
    path = Path(os.path.abspath(source))
    kind = path.suffix.lower()
    if path.is_dir():
        _refuse_column(label_from, "a folder")
        return folders.read(path, label_from, exclude_dirs)
    if not path.exists():
        raise SourceError(f"expected a folder or file to index, found nothing at {source}; check the path")
    if kind in IMAGE_SUFFIXES:
        _refuse_column(label_from, "an image file")
        return iter([folders.file_item(path, path.name, path.parent.name, label_from)])
    if kind not in _READERS:
        accepted = "a folder, an image file, a .parquet, .csv or .tar"
        raise SourceError(f"expected {accepted}, got {source}; convert it, or name the folder that holds the pictures")
    return _READERS[kind](path, label_from)


def count(source: str | Path, *, exclude_dirs: Collection[str] = ()) -> int | None:
    """How many pictures `read` will give, where that is quick to say (None for a .csv or .tar): for progress bars."""
    path = Path(os.path.abspath(source))
    if path.is_dir():
        return sum(1 for _ in folders.walk(path, exclude_dirs))
    if path.suffix.lower() == ".parquet":
        return tables.num_rows(path)
    return 1 if path.suffix.lower() in IMAGE_SUFFIXES else None


def read_image(uri: str) -> bytes:
    """The bytes of the picture that an `Item.uri` names; raises `ImageError` where it cannot be read any more."""
    try:
        if not os.path.exists(uri):
            if place := _IN_PARQUET.fullmatch(uri):
                return tables.read_parquet_row(Path(place["file"]), int(place["place"]))
            if place := _IN_TAR.fullmatch(uri):
                return archives.read_member(Path(place["file"]), place["place"])
        return read_file(Path(uri))
    except (OSError, ValueError, KeyError, tarfile.TarError, SourceError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"expected a picture at {uri}, but cannot read it: {reason}") from None


def container(uri: str) -> Path:
    """The file that must exist for `uri` to be readable: the picture itself, or the table or archive that holds it."""
    place = _IN_PARQUET.fullmatch(uri) or _IN_TAR.fullmatch(uri)
    return Path(uri) if place is None or os.path.exists(uri) else Path(place["file"])


def is_gone(uri: str) -> bool:
    """Whether nothing is left at the place of a picture, or of the table or archive that held it."""
    return "://" not in uri and not container(uri).exists()


def _refuse_column(label_from: str | None, what: str) -> None:
    if label_from not in (None, PARENT):
        raise UsageError(f"expected label_from 'parent' for {what}, got {label_from!r}; only tables have columns")
