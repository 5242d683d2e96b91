"""A query: pictures that are liked, less ones that are not, as one vector."""

import os
from typing import Any

import numpy as np

from indexer.corpus import read_image
from retrieval.errors import UsageError
from retrieval.images import read_pixels

_SUBTRACT_WEIGHT = 0.5


def query_vector(
    embedder: Any, query: Any, *, subtract: Any = (), crop: tuple[int, int, int, int] | None = None
) -> np.ndarray:
    """The mean of the pictures, less half of that of the ones to `subtract`: (D,) float32, uncut, of unit length.

    The arguments are those of `Index.search`. Raises `ImageError` or `UsageError`.
    """
    liked, disliked = _as_list(query), _as_list(subtract)
    if not liked or (crop is not None and len(liked) != 1):
        raise UsageError(f"expected a query, or several without crop, got {len(liked)} with crop={crop}")
    size = embedder.image_size
    pixels = [_pixels(liked[0], size, crop), *(_pixels(picture, size, None) for picture in liked[1:] + disliked)]
    full = embedder.encode_pixels(np.stack(pixels)).full
    vector = full[: len(liked)].mean(axis=0)
    if disliked:
        vector = vector - _SUBTRACT_WEIGHT * full[len(liked) :].mean(axis=0)
    length = np.linalg.norm(vector)
    if length < 1e-6:
        raise UsageError("expected queries that leave something to look for, got ones that cancel each other out")
    return (vector / length).astype(np.float32)


def _pixels(picture: Any, image_size: int, crop: tuple[int, int, int, int] | None) -> np.ndarray:
    """A path or uri, bytes, a PIL image or an (H, W, 3) uint8 array, as (image_size, image_size, 3) pixels."""
    if isinstance(picture, str | os.PathLike):
        picture = read_image(os.fspath(picture))
    if crop is not None:
        picture = _cropped(read_pixels(picture, None), crop)
    return read_pixels(picture, image_size)


def _cropped(pixels: np.ndarray, crop: tuple[int, int, int, int]) -> np.ndarray:
    bottom, right = pixels.shape[:2]
    x, y, width, height = crop
    if x < 0 or y < 0 or width < 1 or height < 1 or x + width > right or y + height > bottom:
        raise UsageError(f"expected a crop x,y,width,height inside of {right}x{bottom} pixels, got {crop}")
    return pixels[y : y + height, x : x + width]


def _as_list(pictures: Any) -> list:
    return list(pictures) if isinstance(pictures, list | tuple) else [pictures]
