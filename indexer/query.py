"""Queries: pictures that are liked, less ones that are not, each as one vector with the tokens of what is liked."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from indexer.corpus import read_image
from retrieval.errors import UsageError
from retrieval.images import read_pixels

if TYPE_CHECKING:
    from retrieval.tokens import Tokens

_SUBTRACT_WEIGHT = 0.5
_BATCH = 64  # pictures encoded at once


@dataclass(frozen=True, kw_only=True, eq=False)
class Queries:
    """Q encoded queries, each of one picture or more.

    `vectors` (Q, D) float32: uncut, of unit length. `dims` (Q,) float32: the mean of its pictures'. `tokens`: those of
    all its pictures, one's after the other's; None where none were asked for.
    """

    vectors: np.ndarray
    dims: np.ndarray
    tokens: "Tokens | None"

    def __len__(self) -> int:
        return len(self.vectors)


def encode(
    embedder: Any,
    queries: Sequence[Any],
    *,
    subtract: Any = (),
    crop: tuple[int, int, int, int] | None = None,
    token_bytes: int = 0,
) -> Queries:
    """Encode at least one query: the mean of its pictures, less half of that of the ones to `subtract` from each.

    A query, `subtract` and `crop` are as in `Index.search`. `token_bytes` is how much the tokens of a picture may take,
    0 for none; those of what is subtracted are left out. Raises `ImageError` or `UsageError`.
    """
    liked, disliked = [_as_list(query) for query in queries], _as_list(subtract)
    for pictures in liked:
        if not pictures or (crop is not None and len(pictures) != 1):
            raise UsageError(f"expected a query, or several without crop, got {len(pictures)} with crop={crop}")
    wanted = [(picture, crop) for pictures in liked for picture in pictures] + [(picture, None) for picture in disliked]
    parts = []
    for start in range(0, len(wanted), _BATCH):
        pixels = _read_all(wanted[start : start + _BATCH], embedder.image_size)
        parts.append(embedder.encode_pixels(pixels, token_bytes=token_bytes))
    full, dims = (np.concatenate([getattr(part, name) for part in parts]) for name in ("full", "dims"))
    nums = np.array([len(pictures) for pictures in liked])
    starts = np.cumsum(nums) - nums
    vectors = np.stack([full[start : start + num].mean(axis=0) for start, num in zip(starts, nums, strict=True)])
    if disliked:
        vectors = vectors - _SUBTRACT_WEIGHT * full[nums.sum() :].mean(axis=0)
    return Queries(
        vectors=unit(vectors),
        dims=(np.add.reduceat(dims[: nums.sum()], starts) / nums).astype(np.float32),
        tokens=_tokens([part.tokens for part in parts], nums, starts) if token_bytes else None,
    )


def unit(vectors: np.ndarray) -> np.ndarray:
    """The rows (Q, D) at unit length, float32; raises `UsageError` for one that has next to none."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if (lengths < 1e-6).any():
        raise UsageError("expected queries that leave something to look for, got ones that cancel each other out")
    return (vectors / lengths).astype(np.float32)


def pixels_of(picture: Any, image_size: int | None, crop: tuple[int, int, int, int] | None = None) -> np.ndarray:
    """A path or uri, bytes, a PIL image or an (H, W, 3) uint8 array, as (image_size, image_size, 3) pixels.

    With an `image_size` of None it keeps its own size.
    """
    if isinstance(picture, str | os.PathLike):
        picture = read_image(os.fspath(picture))
    if crop is not None:
        picture = _cropped(read_pixels(picture, None), crop)
    return read_pixels(picture, image_size)


def _read_all(wanted: Sequence[tuple[Any, tuple | None]], image_size: int) -> np.ndarray:
    if len(wanted) == 1:
        ((picture, crop),) = wanted
        return pixels_of(picture, image_size, crop)[None]
    with ThreadPoolExecutor() as threads:
        futures = [
            # A Pillow image may have yet to read its file, which no two threads may do at once.
            None if isinstance(picture, Image.Image) else threads.submit(pixels_of, picture, image_size, crop)
            for picture, crop in wanted
        ]
        pairs = zip(wanted, futures, strict=True)
        return np.stack([future.result() if future else pixels_of(one[0], image_size, one[1]) for one, future in pairs])


def _tokens(parts: Sequence["Tokens | None"], nums: np.ndarray, starts: np.ndarray) -> "Tokens | None":
    """The tokens of each query's pictures as those of one."""
    if any(part is None for part in parts):
        return None
    from retrieval.tokens import Tokens  # imports torch, which a search without tokens does without

    tokens = Tokens.concatenate(parts)
    counts = np.add.reduceat(tokens.counts[: nums.sum()], starts)
    return Tokens(values=tokens.values[: counts.sum()], counts=counts)


def _cropped(pixels: np.ndarray, crop: tuple[int, int, int, int]) -> np.ndarray:
    bottom, right = pixels.shape[:2]
    x, y, width, height = crop
    if x < 0 or y < 0 or width < 1 or height < 1 or x + width > right or y + height > bottom:
        raise UsageError(f"expected a crop x,y,width,height inside of {right}x{bottom} pixels, got {crop}")
    return pixels[y : y + height, x : x + width]


def _as_list(pictures: Any) -> list:
    return list(pictures) if isinstance(pictures, list | tuple) else [pictures]
