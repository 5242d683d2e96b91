"""Thumbnails: small upright JPEGs of the pictures that an index names, the latest of them kept in memory."""

from collections.abc import Callable

import cv2
import numpy as np
import simplejpeg

from retrieval.errors import UsageError
from retrieval.images import decode
from ui.latest import Latest

_QUALITY = 85


class Thumbnails:
    """Makes thumbnails of what `read_image` gives for a uri, `Index.read_image` for example; many threads may ask.

    Their longer side is at most `side` pixels; no picture is enlarged. Those asked for last are kept, as many as take
    at most `max_bytes`: a picture that has changed on disk meanwhile is shown as it was, until it is asked for as
    another version. Raises `UsageError`.
    """

    def __init__(self, read_image: Callable[[str], bytes], *, side: int = 320, max_bytes: int = 64 * 2**20):
        if side < 1 or max_bytes < 0:
            raise UsageError(f"expected side of at least 1 and max_bytes of at least 0, got {side} and {max_bytes}")
        self._read_image = read_image
        self._side = side
        self._kept: Latest[bytes] = Latest(max_bytes, len)

    def get(self, uri: str, version: str = "") -> bytes:
        """The thumbnail of a picture as a JPEG file's bytes; raises `ImageError` where there is no picture to read.

        `version` tells it from those that were at the same place before, by its checksum for example.
        """
        return self._kept.get((uri, version), lambda: thumbnail(self._read_image(uri), self._side))


def thumbnail(picture: bytes, side: int) -> bytes:
    """A picture file's bytes as those of a JPEG, upright, its longer side at most `side` px; raises `ImageError`."""
    decoded = decode(picture, side)  # squashed, but never from more pixels than it takes
    scale = side / max(decoded.width, decoded.height)
    if scale >= 1:
        pixels = decode(picture, None).pixels
    else:
        size = tuple(max(1, round(length * scale)) for length in (decoded.width, decoded.height))
        pixels = cv2.resize(decoded.pixels, size, interpolation=cv2.INTER_AREA)
    return simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality=_QUALITY, colorsubsampling="420")
