"""How large a picture may be: what is larger is refused before it is decoded."""

from retrieval.errors import ImageError

MAX_PIXELS = 178_956_970
"""Pictures of more pixels are refused (Pillow's own limit against decompression bombs)."""

_MAX_SCANNED_PIXELS = 50 * MAX_PIXELS


def refuse_too_many_pixels(width: int, height: int) -> None:
    """Raise `ImageError` for a picture of more than `MAX_PIXELS`."""
    if width * height > MAX_PIXELS:
        raise ImageError(f"expected at most {MAX_PIXELS:,} pixels, got more (a decompression bomb?)")


def refuse_too_many_scans(data: bytes, width: int, height: int) -> None:
    """Raise `ImageError` for a JPEG that has so many scans that to decode it takes seconds.

    A progressive one has about ten; each makes the decoder pass over the whole picture, and takes a dozen bytes.
    """
    num_scans = data.count(b"\xff\xda")
    if num_scans * width * height > _MAX_SCANNED_PIXELS:
        most = max(1, _MAX_SCANNED_PIXELS // (width * height))
        raise ImageError(f"expected at most {most:,} scans in a JPEG of {width}x{height}, got {num_scans:,}")
