"""Fetching many pictures at once, in threads: most of the time of each is waiting."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from indexer.sources import remote
from retrieval.errors import SpyglassError

_MOST_AT_ONCE = 8


def fetched(urls: Iterable[str]) -> Iterator[bytes | SpyglassError]:
    """The bytes at each URL, or why there are none, in order; no more than a few are held at once."""
    waiting: deque = deque()
    with ThreadPoolExecutor(_MOST_AT_ONCE) as threads:
        for url in urls:
            waiting.append(threads.submit(_read, url))
            if len(waiting) == _MOST_AT_ONCE:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _read(url: str) -> bytes | SpyglassError:
    try:
        return remote.read(url)
    except SpyglassError as error:
        return error
