"""From a file's bytes to upright RGB pixels: the one way in which every picture, corpus or query, is read.

Imports no torch, so that worker processes stay small.
"""

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from retrieval.errors import ImageError

MAX_PIXELS = 178_956_970
"""Pictures of more pixels are refused before they are decoded (Pillow's own limit against decompression bombs)."""

IMAGE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
"""Endings, lower case, of the files that a folder is searched for."""

Image.MAX_IMAGE_PIXELS = MAX_PIXELS

_READERS = (
    BmpImagePlugin.BmpImageFile,
    GifImagePlugin.GifImageFile,
    JpegImagePlugin.JpegImageFile,
    PngImagePlugin.PngImageFile,
    TiffImagePlugin.TiffImageFile,
    WebPImagePlugin.WebPImageFile,
)
_FORMATS = tuple(reader.format for reader in _READERS)  # others may start programs: EPS runs Ghostscript
_EXIF_ORIENTATION = 0x0112
_warnings_lock = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """A picture that was read: `pixels` (S, S, 3) or (H, W, 3) uint8 RGB; `width`, `height` of the upright original."""

    pixels: np.ndarray
    width: int
    height: int


def decode(data: bytes, image_size: int | None) -> Decoded:
    """Read a picture upright, white where it is transparent, squashed to `image_size` squared (None: as it is).

    The whole picture is kept and its aspect is not: what lies at the border counts too. Raises `ImageError`.
    """
    if not data:
        raise ImageError("expected a picture, got an empty file")
    pixels, (width, height) = _read_jpeg(data, image_size) or _read_with_pillow(data, image_size)
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
        with _pillow_errors():
            picture = np.asarray(_flatten(ImageOps.exif_transpose(picture)))
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


def _read_jpeg(data: bytes, image_size: int | None) -> tuple[np.ndarray, tuple[int, int]] | None:
    """The fast path: None where Pillow has to look (another format, CMYK, a damaged file)."""
    if data[:2] != b"\xff\xd8":
        return None
    try:
        height, width, colorspace, _ = simplejpeg.decode_jpeg_header(data)
        if colorspace in ("CMYK", "YCCK") or height * width > MAX_PIXELS:
            return None
        if image_size is None:
            pixels = simplejpeg.decode_jpeg(data, "RGB")
        else:
            # Twice the target is far enough for INTER_AREA to finish the job without aliasing.
            least = 2 * image_size
            pixels = simplejpeg.decode_jpeg(data, "RGB", min_height=least, min_width=least, min_factor=2)
    except ValueError:
        return None
    try:
        orientation = _jpeg_orientation(data)
    except Exception:  # whatever an odd EXIF block makes Pillow raise: its own path will say it, or live with it
        return None
    if orientation in (5, 6, 7, 8):
        width, height = height, width
    return _upright(pixels, orientation), (width, height)


def _jpeg_orientation(data: bytes) -> int:
    head = data[:65_536]
    if b"Exif\x00\x00" not in head and b"Orientation" not in head:  # the second is how XMP spells it
        return 1
    image, orientation = _open_quietly(data)
    image.close()
    return orientation


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Undo an EXIF orientation (Exif 2.32, tag 274: 2-8 are mirrored and rotated ways to hold a camera)."""
    match orientation:
        case 2:
            return pixels[:, ::-1]
        case 3:
            return pixels[::-1, ::-1]
        case 4:
            return pixels[::-1]
        case 5:
            return pixels.transpose(1, 0, 2)
        case 6:
            return np.rot90(pixels, -1)
        case 7:
            return pixels[::-1, ::-1].transpose(1, 0, 2)
        case 8:
            return np.rot90(pixels)
    return pixels


def _read_with_pillow(data: bytes, image_size: int | None) -> tuple[np.ndarray, tuple[int, int]]:
    with _pillow_errors():
        image, orientation = _open_quietly(data)
        with image:
            width, height = image.size
            is_scaled = image_size is not None and image.draft("RGB", (2 * image_size, 2 * image_size)) is not None
            upright = ImageOps.exif_transpose(image)
            if not is_scaled:
                width, height = upright.size
            elif orientation in (5, 6, 7, 8):
                width, height = height, width
            return np.asarray(_flatten(upright)), (width, height)


def _open_quietly(data: bytes) -> tuple[Image.Image, int]:
    """The picture, not decoded yet, and its orientation; Pillow's warnings about odd metadata stay unheard."""
    # Filters belong to the whole process: one thread at a time may change them.
    with _warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
        # Pillow itself only warns up to twice the limit.
        if image.width * image.height > MAX_PIXELS:
            raise Image.DecompressionBombError(f"{image.width}x{image.height}")
        return image, image.getexif().get(_EXIF_ORIENTATION, 1)


@contextmanager
def _pillow_errors() -> Iterator[None]:
    """Make an `ImageError` of everything that Pillow raises."""
    try:
        yield
    except Image.DecompressionBombError:
        raise ImageError(f"expected at most {MAX_PIXELS:,} pixels, got more (a decompression bomb?)") from None
    except UnidentifiedImageError:
        raise ImageError("expected a JPEG, PNG, WebP, GIF, TIFF or BMP picture, got something else") from None
    except MemoryError:
        raise ImageError("expected a picture that fits in memory, got a larger one") from None
    except Exception as error:  # Pillow's decoders raise whatever a hostile file makes them raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"expected a whole picture, got one that does not decode: {reason}") from None


def _flatten(image: Image.Image) -> Image.Image:
    """To 8-bit RGB: 16-bit greys scaled rather than clipped, transparency laid on white."""
    if image.mode.startswith("I") or image.mode == "F":
        levels = np.asarray(image).astype(np.float64)
        top = 65_535.0 if image.mode.startswith("I;16") else _top_level(levels.max(initial=0.0))
        return Image.fromarray((levels.clip(0, top) * (255.0 / top)).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")


def _top_level(highest: float) -> float:
    """What counts as white where the format does not say: the first usual full scale that holds the highest level."""
    return next((top for top in (1.0, 255.0) if highest <= top), 65_535.0)
