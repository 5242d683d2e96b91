"""HEIC and AVIF, the pictures in ISO media files; the error says what to install where their reader is missing."""

import io

from PIL import Image, features

from retrieval.errors import ImageError

_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
_EITHER_BRANDS = frozenset({b"mif1", b"mif2", b"msf1"})


def opened(data: bytes) -> Image.Image | None:
    """The picture, not decoded yet; None for other formats, `ImageError` where its reader is not installed.

    A HEIC comes without an orientation: its reader turns it.
    """
    brands = _brands(data)
    if brands & _AVIF_BRANDS:
        return _opened_avif(data)
    if brands & (_HEIF_BRANDS | _EITHER_BRANDS):
        return _opened_heic(data)
    return None


def _brands(data: bytes) -> set[bytes]:
    """What a file says it is, at its start: one brand, a version, and those it is compatible with."""
    if data[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(data[:4], "big"), 256)
    found = {data[8:12], *(data[place : place + 4] for place in range(16, end, 4))}
    return found if found & (_AVIF_BRANDS | _HEIF_BRANDS | _EITHER_BRANDS) else set()


def _opened_avif(data: bytes) -> Image.Image:
    if not features.check("avif"):
        raise ImageError("expected a Pillow that reads AVIF, got one without; run: pip install -U 'pillow>=11.3'")
    return Image.open(io.BytesIO(data), formats=("AVIF",))


def _opened_heic(data: bytes) -> Image.Image:
    try:
        from pillow_heif import HeifImageFile
    except ImportError:
        raise ImageError(
            "expected pillow-heif to read a HEIC, got none; run: pip install 'spyglass-image-search[heic]'"
        ) from None
    return HeifImageFile(io.BytesIO(data))
