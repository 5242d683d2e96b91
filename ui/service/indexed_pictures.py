"""The pictures of an index by their ids: the only way in which the service and the page read a file for a client."""

import hashlib
from typing import NamedTuple

from indexer import Index, corpus
from retrieval.errors import ImageError
from retrieval.images import read_header
from ui.pictures.thumbnails import Thumbnails

SIDES = (160, 320, 640)
"""Pixels of the longer side of the thumbnails that there are."""

_BYTES = 48 * 2**20  # of the thumbnails of each size that are kept


class GoneError(ImageError):
    """The picture of an image is not what was indexed any more, or cannot be read."""


class UnknownImageError(LookupError):
    """The index has no image of that id."""


class StoredPicture(NamedTuple):
    """Where the picture of an image lies, and the checksum that it had when it was indexed."""

    uri: str
    sha256: str


class IndexedPictures:
    """Reads pictures, whole or small. What lies where a picture was when it was indexed is shown only if it still is
    that picture: a file that has taken its place is nobody's business.
    """

    def __init__(self):
        self._thumbnails = {side: Thumbnails(_read_named, side=side, max_bytes=_BYTES) for side in SIDES}

    def original(self, picture: StoredPicture) -> tuple[bytes, str]:
        """The file's bytes and its media type; raises `GoneError`."""
        data = read(picture)
        return data, read_header(data).media_type

    def thumbnail(self, picture: StoredPicture, side: int) -> bytes:
        """A JPEG file whose longer side is at most `side` pixels, one of `SIDES`; raises `GoneError`."""
        # Named by the checksum too: a picture that was indexed anew has a new thumbnail.
        return self._thumbnails[side].get(f"{picture.sha256} {picture.uri}")


def find(index: Index, image_id: str) -> StoredPicture:
    """The picture of an image of the index; raises `UnknownImageError`."""
    row = index.row(image_id)
    if row is None:
        raise UnknownImageError(f"expected the id of an image of the index, got {image_id!r}")
    return StoredPicture(uri=row["uri"], sha256=row["sha256"])


def read(picture: StoredPicture) -> bytes:
    """The bytes that were indexed; raises `GoneError` where they are not there any more."""
    try:
        data = corpus.read_image(picture.uri)
    except ImageError as error:
        raise GoneError("expected the picture that was indexed, but cannot read it any more; index again") from error
    if hashlib.sha256(data).hexdigest() != picture.sha256:
        raise GoneError("expected the picture that was indexed, got another in its place; index again")
    return data


def _read_named(name: str) -> bytes:
    sha256, _, uri = name.partition(" ")
    return read(StoredPicture(uri=uri, sha256=sha256))
