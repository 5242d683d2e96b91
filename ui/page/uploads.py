"""Pictures that visitors gave the page, kept in memory under their sha256: a reload or a shared link finds them."""

import hashlib

from retrieval.errors import ImageError, UsageError
from retrieval.images import decode
from ui.latest import Latest

MAX_BYTES = 64 * 2**20
"""The size of the largest picture that is taken."""


class Uploads:
    """The latest pictures, as many as take at most `max_bytes` together; for many threads at once."""

    def __init__(self, *, max_bytes: int = 4 * MAX_BYTES):
        if max_bytes < MAX_BYTES:
            raise UsageError(f"expected max_bytes of at least {MAX_BYTES}, that of one picture, got {max_bytes}")
        self._kept: Latest[bytes] = Latest(max_bytes, len)

    def add(self, picture: bytes) -> str:
        """Keep a picture file's bytes, and return their sha256; raises `ImageError` for what is no picture."""
        if len(picture) > MAX_BYTES:
            raise ImageError(f"expected a picture of at most {MAX_BYTES // 2**20} MB, got a larger one")
        decode(picture, 32)
        name = hashlib.sha256(picture).hexdigest()
        self._kept.put(name, picture)
        return name

    def get(self, sha256: str) -> bytes:
        """The bytes of a picture; raises `ImageError` where it is not kept any more."""
        return self._kept.get(sha256, _refuse_forgotten)


def _refuse_forgotten() -> bytes:
    raise ImageError("expected a picture that was given to this page, got one it has forgotten; add it again")
