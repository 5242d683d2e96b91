"""The bytes of an image file: of a regular file alone, and of no more than can be meant."""

import stat
from pathlib import Path

from retrieval.errors import ImageError

MAX_IMAGE_BYTES = 256 * 1024 * 1024
"""Pictures of more bytes are refused unread."""


def read_file(path: Path) -> bytes:
    """A file's bytes; raises `ImageError` for what is no file or too large, `OSError` where it cannot be read."""
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):
        raise ImageError("expected a file, got a folder or a device")
    refuse_too_large(about.st_size)
    return path.read_bytes()


def refuse_too_large(num_bytes: int) -> None:
    """Raise `ImageError` for more than `MAX_IMAGE_BYTES`."""
    if num_bytes > MAX_IMAGE_BYTES:
        raise ImageError(f"expected at most {MAX_IMAGE_BYTES:,} bytes, got {num_bytes:,}")
