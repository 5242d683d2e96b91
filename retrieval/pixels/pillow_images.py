"""Every format through Pillow: upright, 8-bit RGB, white where transparent, in little more memory than it takes."""

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
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
from retrieval.pixels import iso_images
from retrieval.pixels.image_limits import MAX_PIXELS, refuse_too_many_pixels, refuse_too_many_scans
from retrieval.pixels.orientation import EXIF_ORIENTATION, swaps_sides

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
_JPEG_FORMATS = ("JPEG", "MPO")
_BAND_PIXELS = 1 << 20
_warnings_lock = threading.Lock()


def read(data: bytes, image_size: int | None) -> tuple[np.ndarray, tuple[int, int]]:
    """Pixels (H, W, 3), perhaps scaled down, and (width, height) of the upright original; raises `ImageError`."""
    with _pillow_errors():
        image, orientation = opened(data)
        with image:
            is_jpeg = image.format in _JPEG_FORMATS
            if is_jpeg:
                refuse_too_many_scans(data, *image.size)
            width, height = image.size
            # Others than JPEG may answer with a small picture that they hold beside the large one.
            is_scaled = (
                is_jpeg and image_size is not None and image.draft("RGB", (2 * image_size, 2 * image_size)) is not None
            )
            ImageOps.exif_transpose(image, in_place=True)
            if not is_scaled:
                width, height = image.size
            elif swaps_sides(orientation):
                width, height = height, width
            return _flat(image), (width, height)


def header(data: bytes) -> tuple[str, tuple[int, int]]:
    """The media type and the (width, height) as stored, of a picture that is not decoded; raises `ImageError`."""
    with _pillow_errors():
        with _without_warnings(), _opened(data) as image:
            # Several JPEGs in one file, as cameras write them, are shown as the first of them.
            return "image/jpeg" if image.format in _JPEG_FORMATS else f"image/{image.format.lower()}", image.size


def upright_rgb(image: Image.Image) -> np.ndarray:
    """The pixels (H, W, 3) uint8 of a Pillow image, which stays as it is; raises `ImageError`."""
    with _pillow_errors():
        return _flat(ImageOps.exif_transpose(image))


def opened(data: bytes) -> tuple[Image.Image, int]:
    """The picture, not decoded yet, and its EXIF orientation; raises `ImageError`, and whatever Pillow raises.

    Pillow's warnings about odd metadata stay unheard.
    """
    with _without_warnings():
        image = _opened(data)
        return image, image.getexif().get(EXIF_ORIENTATION, 1)  # which decodes a PNG


def _opened(data: bytes) -> Image.Image:
    image = iso_images.opened(data) or Image.open(io.BytesIO(data), formats=_FORMATS)
    refuse_too_many_pixels(*image.size)  # Pillow itself only warns up to twice the limit
    return image


@contextmanager
def _without_warnings() -> Iterator[None]:
    # Filters belong to the whole process: one thread at a time may change them.
    with _warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _pillow_errors() -> Iterator[None]:
    """Make an `ImageError` of everything that Pillow raises."""
    try:
        yield
    except ImageError:
        raise
    except Image.DecompressionBombError:
        raise ImageError(f"expected at most {MAX_PIXELS:,} pixels, got more (a decompression bomb?)") from None
    except UnidentifiedImageError:
        expected = "expected a JPEG, PNG, WebP, GIF, TIFF, BMP, HEIC or AVIF picture"
        raise ImageError(f"{expected}, got something else") from None
    except MemoryError:
        raise ImageError("expected a picture that fits in memory, got a larger one") from None
    except Exception as error:  # Pillow's decoders raise whatever a hostile file makes them raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"expected a whole picture, got one that does not decode: {reason}") from None


def _flat(image: Image.Image) -> np.ndarray:
    """To 8-bit RGB, a band of rows after the other: copies of the whole would take many times its memory."""
    width, height = image.size
    rows = max(1, _BAND_PIXELS // max(1, width))
    bands = [(0, top, width, min(top + rows, height)) for top in range(0, height, rows)]
    top_level = _top_level(image, bands)
    pixels = np.empty((height, width, 3), np.uint8)
    for band in bands:
        pixels[band[1] : band[3]] = _flat_band(image.crop(band), top_level)
    return pixels


def _flat_band(band: Image.Image, top_level: float | None) -> np.ndarray:
    """16-bit greys scaled rather than clipped, transparency laid on white."""
    if top_level is not None:
        with np.errstate(invalid="ignore"):  # a signalling NaN is a NaN
            levels = np.nan_to_num(np.asarray(band).astype(np.float64)).clip(0, top_level) * (255.0 / top_level)
        return levels.astype(np.uint8)[..., None]
    if band.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in band.info:
        layer = band.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        band = Image.alpha_composite(white, layer)
    return np.asarray(band.convert("RGB"))


def _top_level(image: Image.Image, bands: list[tuple[int, int, int, int]]) -> float | None:
    """What counts as white in a picture of more than 8 bits; None for the others.

    Where the format does not say: the first usual full scale that holds the highest level.
    """
    if image.mode.startswith("I;16"):
        return 65_535.0
    if image.mode not in ("I", "F"):
        return None
    highest = max(np.nan_to_num(np.asarray(image.crop(band))).max(initial=0) for band in bands)
    return next((top for top in (1.0, 255.0) if highest <= top), 65_535.0)
