"""The pixels of a query's picture, however it is given, or of a part of it."""

import os
from typing import Any

import numpy as np

from indexer.corpus import read_image
from retrieval.errors import ImageError, UsageError
from retrieval.images import read_pixels

Crop = tuple[int, int, int, int]
"""x, y, width and height in pixels of the upright picture."""


def pixels_of(picture: Any, image_size: int | None, crop: Crop | None = None) -> np.ndarray:
    """A path or uri, bytes, a PIL image or an (H, W, 3) uint8 array, as (image_size, image_size, 3) pixels.

    With an `image_size` of None it keeps its own size. Raises `ImageError`, and names the file; `UsageError`.
    """
    if isinstance(picture, str | os.PathLike):
        uri = os.fspath(picture)
        data = read_image(uri)
        try:
            return pixels_of(data, image_size, crop)
        except ImageError as error:
            # There may be several pictures in a query.
            raise ImageError(f"{uri}: {error}") from None
    if crop is not None:
        picture = _cropped(read_pixels(picture, None), crop)
    return read_pixels(picture, image_size)


def _cropped(pixels: np.ndarray, crop: Crop) -> np.ndarray:
    bottom, right = pixels.shape[:2]
    x, y, width, height = crop
    if x < 0 or y < 0 or width < 1 or height < 1 or x + width > right or y + height > bottom:
        raise UsageError(f"expected a crop x,y,width,height inside of {right}x{bottom} pixels, got {crop}")
    return pixels[y : y + height, x : x + width]
