"""From a file's bytes to upright RGB pixels: the one way in which every picture, corpus or query, is read.

Imports no torch, so that worker processes stay small.
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from retrieval.errors import ImageError
from retrieval.pixels import jpeg_images, pillow_images
from retrieval.pixels.image_limits import MAX_PIXELS

__all__ = ["IMAGE_SUFFIXES", "MAX_PIXELS", "Decoded", "Header", "decode", "read_header", "read_pixels", "squash"]

IMAGE_SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".heic", ".heif", ".hif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
)
"""Endings, lower case, of the files that a folder is searched for."""


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """A picture that was read: `pixels` (S, S, 3) or (H, W, 3) uint8 RGB; `width`, `height` of the upright original."""

    pixels: np.ndarray
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a picture file says of itself: `media_type`, such as "image/png", and the pixels of its sides as stored."""

    media_type: str
    width: int
    height: int


def read_header(data: bytes) -> Header:
    """Look at a picture file without decoding it; raises `ImageError` where it cannot be one."""
    media_type, (width, height) = pillow_images.header(data)
    return Header(media_type=media_type, width=width, height=height)


def decode(data: bytes, image_size: int | None) -> Decoded:
    """Read a picture upright, white where it is transparent, squashed to `image_size` squared (None: as it is).

    The whole picture is kept and its aspect is not: what lies at the border counts too. Raises `ImageError`.
    """
    if not data:
        raise ImageError("expected a picture, got an empty file")
    pixels, (width, height) = jpeg_images.read(data, image_size) or pillow_images.read(data, image_size)
    return Decoded(pixels=_fitted(pixels, image_size), width=width, height=height)


def read_pixels(picture: str | Path | bytes | Image.Image | np.ndarray, image_size: int | None) -> np.ndarray:
    """The pixels of `decode` for a path, encoded bytes, a Pillow image or (H, W, 3) uint8 RGB; raises `ImageError`."""
    if isinstance(picture, (str, Path)):
        try:
            picture = Path(picture).read_bytes()
        except (OSError, ValueError) as error:  # ValueError: no name that a file could have
            reason = getattr(error, "strerror", None) or error
            raise ImageError(f"expected a readable picture, got {picture}: {reason}") from None
    if isinstance(picture, (bytes, bytearray, memoryview)):
        return decode(bytes(picture), image_size).pixels
    if isinstance(picture, Image.Image):
        picture = pillow_images.upright_rgb(picture)
    if not isinstance(picture, np.ndarray) or picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        got = f"{picture.dtype} {picture.shape}" if isinstance(picture, np.ndarray) else type(picture).__name__
        raise ImageError(f"expected a path, bytes, a Pillow image or (H, W, 3) uint8 RGB, got {got}")
    return _fitted(picture, image_size)


def squash(pixels: np.ndarray, image_size: int) -> np.ndarray:
    """Resize (H, W, 3) uint8 to (`image_size`, `image_size`, 3): areas averaged on the way down, cubic up."""
    height, width = pixels.shape[:2]
    # A long, thin picture shrinks along one side and grows along the other; cubic sampling would alias the first.
    shrunk = (min(width, image_size), min(height, image_size))
    if shrunk != (width, height):
        pixels = cv2.resize(pixels, shrunk, interpolation=cv2.INTER_AREA)
    if shrunk != (image_size, image_size):
        pixels = cv2.resize(pixels, (image_size, image_size), interpolation=cv2.INTER_CUBIC)
    return pixels


def _fitted(pixels: np.ndarray, image_size: int | None) -> np.ndarray:
    if pixels.size == 0:
        raise ImageError(f"expected a picture with pixels, got one of {pixels.shape[1]}x{pixels.shape[0]}")
    return np.ascontiguousarray(pixels if image_size is None else squash(pixels, image_size))
