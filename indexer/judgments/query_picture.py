"""A query's own picture, kept beside what was said of it: small, exact, and under a name."""

import hashlib
import io

import numpy as np
from PIL import Image

from retrieval.images import read_pixels

MAX_SIDE = 256
"""Pixels of the longer side of a picture that is kept."""

_EXACT = (b"\x89PNG", b"RIFF")


def name_of(pixels: np.ndarray) -> str:
    """A name for a picture that has none, (H, W, 3) uint8: the same pixels, the same name."""
    return f"sha256:{hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()}"


def shrink(pixels: np.ndarray) -> bytes:
    """(H, W, 3) uint8 as lossless WebP, its longer side brought down to `MAX_SIDE` by averaging areas."""
    image = Image.fromarray(pixels)
    scale = MAX_SIDE / max(image.size)
    if scale < 1:
        width, height = (max(1, round(side * scale)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BOX)
    file = io.BytesIO()
    image.save(file, "WEBP", lossless=True)
    return file.getvalue()


def kept(data: bytes) -> bytes:
    """A picture that was kept elsewhere: its own bytes where they would do here, shrunk otherwise; or `ImageError`."""
    pixels = read_pixels(data, None)
    return data if data.startswith(_EXACT) and max(pixels.shape[:2]) <= MAX_SIDE else shrink(pixels)
