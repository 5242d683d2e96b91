"""Files at URLs, through fsspec: with time-outs, limits, and patience for servers that fail for a moment."""

import io
import os
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from indexer.sources.image_files import refuse_too_large
from indexer.sources.urls import protocol_of
from retrieval import __version__
from retrieval.errors import ImageError, MissingExtraError, SourceError, UsageError

CONNECT_SECONDS = 10.0
IDLE_SECONDS = 30.0
"""How long a server may send nothing."""
PICTURE_SECONDS = 120.0
"""How long a picture may take, however steadily it drips in."""
NUM_TRIES = 3
WAIT_SECONDS = 0.5
"""Before the second try; twice as long before each further one, or as long as the server asks for."""
MAX_WAIT_SECONDS = 20.0

_HTTP = ("http", "https")
_TEMPORARY_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
_FOR_GOOD = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, ValueError, ImportError)
_PIECE_BYTES = 1 << 20
_EXTRAS = {"s3": "s3", "s3a": "s3"}

T = TypeVar("T")


def read(url: str) -> bytes:
    """The bytes of a picture; raises `ImageError` where they cannot be had, `MissingExtraError`."""

    def attempt() -> bytes:
        file = _Bounded(io.BytesIO(), refuse_too_large, seconds=PICTURE_SECONDS)
        _copy(url, file)
        return file.target.getvalue()

    try:
        return patiently(attempt)
    except (ImageError, MissingExtraError):
        raise
    except Exception as error:  # each protocol has errors of its own
        raise ImageError(f"expected a picture that can be fetched, got: {reason_of(error)}") from None


class Download:
    """A copy of a remote table or archive, the file `path`; deleted by `close`, or once nobody holds it any more."""

    def __init__(self, path: Path):
        self.path = path
        self.close = weakref.finalize(self, os.unlink, path)


def download(url: str) -> Download:
    """Fetch a whole file; raises `SourceError` where it cannot be had, `MissingExtraError`."""
    handle, name = tempfile.mkstemp(prefix="spyglass-")
    copy = Download(Path(name))
    most = int(0.9 * shutil.disk_usage(copy.path.parent).free)

    def refuse(num_bytes: int) -> None:
        if num_bytes > most:
            raise SourceError(f"expected a file that fits in {copy.path.parent}, got more than {most:,} bytes: {url}")

    def attempt() -> None:
        file.seek(0)
        file.truncate()
        _copy(url, _Bounded(file, refuse))

    try:
        with open(handle, "wb") as file:
            patiently(attempt)
    except (SourceError, MissingExtraError):
        copy.close()
        raise
    except Exception as error:  # each protocol has errors of its own
        copy.close()
        raise SourceError(f"expected a file that can be fetched, got {url}: {reason_of(error)}") from None
    return copy


@contextmanager
def opened(url: str) -> Iterator[BinaryIO]:
    """A remote file to look up a place in, read in parts where the server gives parts, or else as a copy."""
    system, path = filesystem(url)
    with system.open(path, "rb") as file:
        try:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 1))
            file.read(1)
            in_parts = True
        except (ValueError, TypeError):  # what a file without a length, or without parts, says to that
            in_parts = False
        if in_parts:
            file.seek(0)
            yield file
            return
    copy = download(url)
    try:
        with copy.path.open("rb") as file:
            yield file
    finally:
        copy.close()


def refuse_missing(url: str) -> None:
    """Raise `SourceError` where there is nothing at a URL."""
    system, path = filesystem(url)
    try:
        if protocol_of(url) in _HTTP:
            # `exists` says no where the server is out of order.
            patiently(lambda: _copy(url, _Bounded(io.BytesIO(), _enough)))
        elif not patiently(lambda: system.exists(path)):
            raise FileNotFoundError(url)
    except _Enough:
        return
    except Exception as error:  # each protocol has errors of its own
        raise SourceError(f"expected something to index at {url}, got: {reason_of(error)}; check the URL") from None


def filesystem(url: str) -> tuple[Any, str]:
    """What reads a URL, and the path in it; raises `MissingExtraError`, or `UsageError` for an unknown protocol."""
    protocol = protocol_of(url)
    try:
        import fsspec
    except ImportError:
        raise _missing("fsspec", "remote", url) from None
    # Whatever the user's own settings for fsspec say of a protocol stands.
    try:
        settings = {} if protocol in fsspec.config.conf else _settings(protocol)
        return fsspec.core.url_to_fs(url, **settings)
    except ImportError as error:
        raise _missing(str(error), _EXTRAS.get(protocol, "remote"), url) from None
    except ValueError as error:
        raise UsageError(f"expected a URL that fsspec can read, got {url}: {error}") from None


def patiently(attempt: Callable[[], T]) -> T:
    """Try `NUM_TRIES` times, unless an error is there to stay; raises the last one."""
    for number in range(NUM_TRIES):
        try:
            return attempt()
        except Exception as error:  # each protocol has errors of its own
            if number + 1 == NUM_TRIES or not _is_temporary(error):
                raise
            time.sleep(_pause(error, number))
    raise AssertionError("expected at least one try")


def reason_of(error: Exception) -> str:
    """What went wrong, in a line."""
    status = getattr(error, "status", None)
    if status is not None:
        return f"{status} {getattr(error, 'message', '')}".strip() if status else type(error).__name__
    if isinstance(error, FileNotFoundError):
        return "nothing is there"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    text = " ".join(str(getattr(error, "strerror", None) or error).split())
    return text if " " in text else f"{type(error).__name__} {text}".strip()


def _copy(url: str, file: "_Bounded") -> None:
    system, path = filesystem(url)
    if protocol_of(url) in _HTTP:
        # In one request, which `open` would not do: it asks for the size first.
        system.get_file(path, file)
        return
    with system.open(path, "rb") as source:
        while piece := source.read(_PIECE_BYTES):
            file.write(piece)


class _Bounded(io.RawIOBase):
    """A file that is written to until it is too large, or has taken too long."""

    def __init__(self, target: BinaryIO, refuse: Callable[[int], None], *, seconds: float | None = None):
        self.target = target
        self._refuse = refuse
        self._num_bytes = 0
        self._ends_at = None if seconds is None else time.monotonic() + seconds

    def writable(self) -> bool:
        return True

    def write(self, piece: bytes) -> int:
        self._num_bytes += len(piece)
        self._refuse(self._num_bytes)
        if self._ends_at is not None and time.monotonic() > self._ends_at:
            raise TimeoutError
        return self.target.write(piece)


class _Enough(Exception):
    """Raised by a file that wanted to know no more than whether there is anything."""


def _enough(num_bytes: int) -> None:
    raise _Enough


def _settings(protocol: str) -> dict[str, Any]:
    if protocol in _HTTP:
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=IDLE_SECONDS)
        # The environment may name a proxy.
        client = {"timeout": timeout, "headers": {"User-Agent": f"spyglass/{__version__}"}, "trust_env": True}
        return {"client_kwargs": client}
    if protocol in ("s3", "s3a"):
        return {"config_kwargs": {"connect_timeout": CONNECT_SECONDS, "read_timeout": IDLE_SECONDS}}
    return {}


def _missing(what: str, extra: str, url: str) -> MissingExtraError:
    return MissingExtraError(
        f"expected what reads {url}, got none ({what}); run: pip install 'spyglass-image-search[{extra}]'"
    )


def _is_temporary(error: Exception) -> bool:
    status = getattr(error, "status", None)
    if status is not None:
        return status in _TEMPORARY_STATUS
    return not isinstance(error, (*_FOR_GOOD, SourceError, _Enough))


def _pause(error: Exception, number: int) -> float:
    headers = getattr(error, "headers", None) or {}
    asked = headers.get("Retry-After", "")
    return min(MAX_WAIT_SECONDS, float(asked) if asked.isdecimal() else WAIT_SECONDS * 2**number)
