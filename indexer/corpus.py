"""Where pictures come from, here or at a URL: folders, image files, tables (.parquet, .csv) and archives (.tar)."""

import os
import re
import tarfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import BinaryIO

from indexer.sources import archives, folders, remote, remote_folders, tables
from indexer.sources.image_files import read_file
from indexer.sources.item import PARENT, Item
from indexer.sources.origin import Origin
from indexer.sources.urls import is_url, path_of
from retrieval.errors import ImageError, SourceError, UsageError
from retrieval.images import IMAGE_SUFFIXES

__all__ = [
    *("MAX_IMAGE_BYTES", "PARENT", "Item", "container", "count", "holds_many", "is_folder", "is_gone", "is_inside"),
    *("read", "read_image"),
]

_READERS: dict[str, Callable[[Origin, str | None], Iterator[Item]]] = {
    ".parquet": tables.read_parquet,
    ".csv": tables.read_csv,
    ".tar": archives.read,
}
_COMPRESSED = frozenset({".7z", ".bz2", ".gz", ".rar", ".tbz", ".tgz", ".txz", ".xz", ".zip", ".zst"})
_IN_PARQUET = re.compile(r"(?P<file>.+\.parquet)#(?P<place>\d+)", re.IGNORECASE | re.DOTALL)
_IN_TAR = re.compile(r"(?P<file>.+?\.tar)#(?P<place>.+)", re.IGNORECASE | re.DOTALL)


def read(source: str | Path, *, label_from: str | None = None, exclude_dirs: Collection[str] = ()) -> Iterator[Item]:
    """The pictures of a folder, an image file, a .parquet, .csv or .tar, in a fixed order and without holding them all.

    `source` is a path, or a URL that fsspec can read. `label_from` is `"parent"` or a column; by default a column
    `label` where there is one. Folders named in `exclude_dirs`, and hidden files and folders, are skipped. Raises
    `SourceError`, `UsageError` or `MissingExtraError` at once; a remote table or archive, which is fetched when its
    turn comes, says then what is wrong with it, as an item's `problem`.
    """
    _refuse_missing(source)
    if is_url(str(source)):
        return _read_remote(str(source), label_from, exclude_dirs)
    path = Path(os.path.abspath(source))
    if path.is_dir():
        _refuse_column(label_from, "a folder")
        return folders.read(path, label_from, exclude_dirs)
    if path.suffix.lower() in IMAGE_SUFFIXES:
        _refuse_column(label_from, "an image file")
        return iter([folders.file_item(path, path.name, path.parent.name, label_from)])
    return _reader_of(path, str(source))(Origin.at(path), label_from)


def count(source: str | Path, *, exclude_dirs: Collection[str] = ()) -> int | None:
    """How many pictures `read` will give, where that is quick to say (None for a .csv, .tar or URL)."""
    if is_url(str(source)):
        return None
    path = Path(os.path.abspath(source))
    if path.is_dir():
        return sum(1 for _ in folders.walk(path, exclude_dirs))
    if path.suffix.lower() == ".parquet":
        return tables.num_rows(path)
    return 1 if path.suffix.lower() in IMAGE_SUFFIXES else None


def read_image(uri: str) -> bytes:
    """The bytes of the picture that an `Item.uri` names; raises `ImageError` where it cannot be read any more."""
    try:
        if place := _inside(uri):
            with _opened(place["file"]) as file:
                if place.re is _IN_PARQUET:
                    return tables.read_parquet_row(file, int(place["place"]))
                return archives.read_member(file, place["place"])
        return remote.read(uri) if is_url(uri) else read_file(Path(uri))
    except (OSError, ValueError, KeyError, tarfile.TarError, SourceError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"expected a picture at {uri}, but cannot read it: {reason}") from None


def container(uri: str) -> str:
    """What must be there for `uri` to be readable: the picture itself, or the table or archive that holds it."""
    place = _inside(uri)
    return uri if place is None else place["file"]


def is_inside(uri: str) -> bool:
    """Whether a picture lies in a table or an archive, rather than in a file of its own."""
    return _inside(uri) is not None


def is_folder(uri: str) -> bool:
    """Whether a uri is that of a folder: a URL that ends in a slash, or a path of one."""
    return uri.endswith("/") if is_url(uri) else os.path.isdir(uri)


def holds_many(uri: str) -> bool:
    """Whether a uri is that of a folder, a table or an archive, rather than of one picture."""
    kind = path_of(uri).suffix if is_url(uri) else Path(uri).suffix
    return container(uri) == uri and (is_folder(uri) or kind.lower() in _READERS)


def is_gone(uri: str) -> bool:
    """Whether nothing is left of a picture's file; never of what is remote, or may not be looked at."""
    home = container(uri)
    if is_url(home):
        return False
    try:
        os.stat(home)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):  # no permission, a disk in trouble: that is not to say that there is nothing
        return False
    return False


def _refuse_missing(source: str | Path) -> None:
    """Raise `SourceError` where there is nothing to index at a path or URL, `MissingExtraError`, `UsageError`."""
    if is_url(str(source)):
        remote.refuse_missing(str(source))
    elif not Path(source).exists():
        raise SourceError(f"expected a folder or file to index, found nothing at {source}; check the path")


def _inside(uri: str) -> re.Match | None:
    place = _IN_PARQUET.fullmatch(uri) or _IN_TAR.fullmatch(uri)
    return None if place is None or (not is_url(uri) and os.path.exists(uri)) else place


@contextmanager
def _opened(home: str) -> Iterator[BinaryIO]:
    with remote.opened(home) if is_url(home) else open(home, "rb") as file:
        yield file


def _read_remote(url: str, label_from: str | None, exclude_dirs: Collection[str]) -> Iterator[Item]:
    path = path_of(url)
    kind = path.suffix.lower()
    if kind in IMAGE_SUFFIXES:
        _refuse_column(label_from, "an image file")
        label = path.parent.name if label_from == PARENT else None
        return iter([Item(id=path.name, uri=url, source=path.parent.name or "remote", label=label)])
    if kind in _READERS or kind in _COMPRESSED:
        return _fetched(url, _reader_of(path, url), label_from)
    _refuse_column(label_from, "a folder")
    return remote_folders.read(url, label_from, exclude_dirs)


def _fetched(
    url: str, reader: Callable[[Origin, str | None], Iterator[Item]], label_from: str | None
) -> Iterator[Item]:
    try:
        origin = Origin.fetched(url, remote.download(url))
        items = reader(origin, label_from)
    except (SourceError, UsageError) as error:
        yield Item(id=path_of(url).name, uri=url, source=path_of(url).stem, problem=str(error))
        return
    yield from items
    origin.copy.close()


def _reader_of(path: PurePath, source: str) -> Callable[[Origin, str | None], Iterator[Item]]:
    kind = path.suffix.lower()
    if kind in _COMPRESSED:
        raise SourceError(
            f"expected a folder or an uncompressed .tar, got {source}; unpack it, and index what it holds"
        )
    if kind not in _READERS:
        accepted = "a folder, an image file, a .parquet, .csv or .tar"
        raise SourceError(f"expected {accepted}, got {source}; convert it, or name the folder that holds the pictures")
    return _READERS[kind]


def _refuse_column(label_from: str | None, what: str) -> None:
    if label_from not in (None, PARENT):
        raise UsageError(f"expected label_from 'parent' for {what}, got {label_from!r}; only tables have columns")
