"""Pictures that visitors gave the page, kept in memory under their sha256: a reload or a shared link finds them."""

import hashlib
import threading
from collections import OrderedDict

from retrieval.errors import ImageError, UsageError
from retrieval.images import decode

MAX_BYTES = 64 * 2**20
"""The size of the largest picture that is taken."""


class Uploads:
    """The latest pictures, as many as take at most `max_bytes` together; for many threads at once."""

    def __init__(self, *, max_bytes: int = 4 * MAX_BYTES):
        if max_bytes < MAX_BYTES:
            raise UsageError(f"expected max_bytes of at least {MAX_BYTES}, that of one picture, got {max_bytes}")
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, picture: bytes) -> str:
        """Keep a picture file's bytes, and return their sha256; raises `ImageError` for what is no picture."""
        if len(picture) > MAX_BYTES:
            raise ImageError(f"expected a picture of at most {MAX_BYTES // 2**20} MB, got a larger one")
        decode(picture, 32)
        name = hashlib.sha256(picture).hexdigest()
        with self._lock:
            self._num_bytes += len(picture) - len(self._kept.pop(name, b""))
            self._kept[name] = picture
            while self._num_bytes > self._max_bytes:
                _, oldest = self._kept.popitem(last=False)
                self._num_bytes -= len(oldest)
        return name

    def get(self, sha256: str) -> bytes:
        """The bytes of a picture; raises `ImageError` where it is not kept any more."""
        with self._lock:
            if sha256 not in self._kept:
                raise ImageError(
                    "expected a picture that was given to this page, got one it has forgotten; add it again"
                )
            self._kept.move_to_end(sha256)
            return self._kept[sha256]
