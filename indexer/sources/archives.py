"""Pictures of a .tar in WebDataset's way: members that follow each other and share a name speak of one picture."""

import json
import tarfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import PurePosixPath
from typing import Any, BinaryIO

from indexer.sources.file_names import refuse_odd_name, shown
from indexer.sources.image_files import refuse_too_large
from indexer.sources.item import PARENT, Item
from indexer.sources.origin import Origin
from retrieval.errors import ImageError, SourceError
from retrieval.images import IMAGE_SUFFIXES

_METADATA_SUFFIXES = frozenset({".json", ".cls", ".txt"})
_BREAK = "(the rest of the archive)"
_BROKEN = (OSError, tarfile.TarError, ValueError, OverflowError)
"""What tarfile raises for archives that are not as they should be."""


def read(origin: Origin, label_from: str | None) -> Iterator[Item]:
    """The pictures of an archive; raises `SourceError` at once for what is none."""
    try:
        tarfile.open(origin.path, "r:").close()
    except _BROKEN as error:
        raise SourceError(f"expected an uncompressed .tar, got {origin.uri}: {error}") from None
    return _items(origin, label_from)


def read_member(file: BinaryIO, name: str) -> bytes:
    """The bytes of one picture; raises `KeyError` where there is none of that name, `ImageError` and tar's own."""
    with tarfile.open(fileobj=file, mode="r:") as archive:
        return _bytes_of(archive, archive.getmember(name))


def _items(origin: Origin, label_from: str | None) -> Iterator[Item]:
    with tarfile.open(origin.path, "r:") as archive:
        for _, group in groupby(_members(archive), key=lambda member: _sample_key(member[0])):
            members = list(group)
            columns: dict[str, Any] = {}
            for name, data in members:
                columns.update(_metadata(name, data))
            label = columns.pop(label_from or "label", columns.get("cls"))
            for name, data in members:
                member = PurePosixPath(name)
                if member.suffix.lower() in IMAGE_SUFFIXES or name == _BREAK:
                    yield Item(
                        id=str(member),
                        # The rest is read again by reading the archive again.
                        uri=origin.uri if name == _BREAK else f"{origin.uri}#{name}",
                        source=origin.source,
                        data=data if isinstance(data, bytes) else None,
                        label=member.parent.name if label_from == PARENT else None if label is None else str(label),
                        columns=columns,
                        problem=data if isinstance(data, str) else None,
                        breaks_off=name == _BREAK,
                    )


def _members(archive: tarfile.TarFile) -> Iterator[tuple[str, bytes | str]]:
    """The name of each visible file, with its bytes, or with what is wrong as text; `_BREAK` for the rest of all."""
    try:
        while (member := archive.next()) is not None:
            archive.members.clear()  # tarfile remembers each one, millions of them
            name = PurePosixPath(member.name)
            hidden = any(part.startswith(".") for part in name.parts)
            if member.isreg() and not hidden and name.suffix.lower() in IMAGE_SUFFIXES | _METADATA_SUFFIXES:
                try:
                    refuse_odd_name(member.name)
                    data = _bytes_of(archive, member)
                except ImageError as error:
                    data = str(error)
                yield shown(member.name), data
        # tarfile takes a damaged header for the end; the true end is a block of zeros.
        archive.fileobj.seek(archive.offset)
        if archive.fileobj.read(tarfile.BLOCKSIZE).strip(b"\0"):
            raise tarfile.ReadError(f"no header at byte {archive.offset}")
    except _BROKEN as error:
        yield _BREAK, f"expected a whole archive, got one that breaks off: {error}"


def _bytes_of(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    refuse_too_large(member.size)
    file = archive.extractfile(member)
    if file is None:
        raise ImageError(f"expected a file in the archive, got something else: {member.name}")
    return file.read()


def _sample_key(name: str) -> tuple[PurePosixPath, str]:
    """The folder, and the name up to its first dot."""
    path = PurePosixPath(name)
    return path.parent, path.name.partition(".")[0]


def _metadata(name: str, data: bytes | str) -> dict[str, Any]:
    """What a .json, .cls or .txt beside a picture says of it; one that cannot be read says nothing."""
    kind = PurePosixPath(name).suffix
    if kind not in _METADATA_SUFFIXES or isinstance(data, str):
        return {}
    text = data.decode("utf-8", "replace")
    if kind != ".json":
        return {kind[1:]: text.strip()}
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    scalars = values.items() if isinstance(values, dict) else ()
    return {_clean(key): _clean(value) for key, value in scalars if not isinstance(value, dict | list)}


def _clean(value: Any) -> Any:
    """Without what JSON can spell but no text can hold: half a pair of surrogates."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
