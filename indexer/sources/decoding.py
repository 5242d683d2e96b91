"""Reading and decoding pictures in worker processes, beside the model: neither waits for the other.

The workers import no torch, so a worker is small and starts fast; one that dies takes no more with it than the picture
that killed it.
"""

import faulthandler
import hashlib
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import cv2
import loky
import numpy as np

from indexer.sources import remote
from indexer.sources.fetching import fetched
from indexer.sources.image_files import read_file
from indexer.sources.item import Item
from retrieval.errors import SpyglassError
from retrieval.images import decode

_CHUNK_IMAGES = 32
_CHUNK_BYTES = 8 * 1024 * 1024

MOST_PER_CPU = 8
"""More processes than this decode no faster, waiting for the network included, and take the machine's memory."""

DECODE_SECONDS = 120.0
"""A worker that is busy with one picture for longer is given up."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """A picture to decode; where the sha256 of its bytes is `known_sha256` there is nothing to do."""

    item: Item
    known_sha256: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of a picture: `pixels` (S, S, 3) uint8 and the facts of its file, or `unchanged`, or a `problem`."""

    sha256: str = ""
    num_bytes: int = 0
    width: int = 0
    height: int = 0
    unchanged: bool = False
    problem: str | None = None
    pixels: np.ndarray | None = None


def decode_all(
    tasks: Iterable[Task], image_size: int, *, num_workers: int, num_ahead: int = 0
) -> Iterator[tuple[Item, Outcome]]:
    """Decode pictures to `image_size` squared, in order, at least `num_ahead` of them beyond the one handed out.

    With `num_workers` 0 it is done here, one after the other; otherwise in as many processes, at most `MOST_PER_CPU`
    for each CPU. Nothing that a picture does is raised: what cannot be decoded, even what kills its worker, comes out
    with a `problem`. Items come out without their `data`.
    """
    if num_workers == 0:
        yield from ((replace(task.item, data=None), _decode_one(_request(task), image_size)) for task in tasks)
        return
    num_workers = min(num_workers, MOST_PER_CPU * loky.cpu_count())
    pool = _Pool(num_workers, image_size)
    waiting: deque[_Chunk] = deque()
    num_chunks_ahead = 2 * num_workers + -(-num_ahead // _CHUNK_IMAGES)
    try:
        for chunk in _chunks(tasks):
            waiting.append(chunk)
            pool.submit(chunk)
            if len(waiting) > num_chunks_ahead:
                yield from _finish(waiting, pool)
        while waiting:
            yield from _finish(waiting, pool)
    finally:
        pool.stop()


class _Request(NamedTuple):
    """What a worker needs to know of a task."""

    data: bytes | None
    path: str | None
    url: str | None
    known_sha256: str | None
    problem: str | None


@dataclass(kw_only=True, slots=True)
class _Chunk:
    """Pictures that travel to a worker and back together; `packed` comes back as (outcomes, pixels (n, S, S, 3))."""

    items: list[Item]
    requests: list[_Request]
    packed: Future | None = None


class _Pool:
    """Worker processes, started anew after one of them has died."""

    def __init__(self, num_workers: int, image_size: int):
        self._num_workers = num_workers
        self._image_size = image_size
        self._executor: loky.ProcessPoolExecutor | None = None

    def submit(self, chunk: _Chunk) -> None:
        if self._executor is None:
            self._executor = loky.ProcessPoolExecutor(
                self._num_workers,
                initializer=_prepare_worker,
                initargs=(os.getpid(),),
                env={"OMP_NUM_THREADS": "1"},
            )
        try:
            chunk.packed = self._executor.submit(_decode_chunk, chunk.requests, self._image_size)
        except BrokenProcessPool as error:  # a worker died since the last chunk; its own chunk will find out why
            chunk.packed = Future()
            chunk.packed.set_exception(error)

    def stop(self) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait=True, kill_workers=True)
            self._executor = None


def _finish(waiting: deque[_Chunk], pool: _Pool) -> Iterator[tuple[Item, Outcome]]:
    """The outcomes of the first chunk; where a worker has died, find out on which picture and go on without it."""
    chunk = waiting.popleft()
    if isinstance(chunk.packed.exception(), BrokenProcessPool):
        pool.stop()
        yield from _one_by_one(chunk, pool)
        for other in waiting:
            pool.submit(other)
        return
    outcomes, pixels = chunk.packed.result()
    rows = iter(pixels)
    for item, outcome in zip(chunk.items, outcomes, strict=True):
        decoded = outcome.problem is None and not outcome.unchanged
        yield item, replace(outcome, pixels=next(rows)) if decoded else outcome


def _one_by_one(chunk: _Chunk, pool: _Pool) -> Iterator[tuple[Item, Outcome]]:
    for item, request in zip(chunk.items, chunk.requests, strict=True):
        alone = _Chunk(items=[item], requests=[request])
        pool.submit(alone)
        if isinstance(alone.packed.exception(), BrokenProcessPool):
            pool.stop()
            problem = "expected a picture that decodes, got one that kills the decoder or keeps it busy"
            yield item, Outcome(problem=problem)
        else:
            yield from _finish(deque([alone]), pool)


def _chunks(tasks: Iterable[Task]) -> Iterator[_Chunk]:
    chunk, num_bytes = _Chunk(items=[], requests=[]), 0
    for task in tasks:
        chunk.items.append(replace(task.item, data=None))
        chunk.requests.append(_request(task))
        num_bytes += len(task.item.data or b"")
        if len(chunk.items) == _CHUNK_IMAGES or num_bytes >= _CHUNK_BYTES:
            yield chunk
            chunk, num_bytes = _Chunk(items=[], requests=[]), 0
    if chunk.items:
        yield chunk


def _request(task: Task) -> _Request:
    item = task.item
    path = str(item.path) if item.path else None
    url = item.uri if item.data is None and item.path is None and item.problem is None else None
    return _Request(item.data, path, url, task.known_sha256, item.problem)


def _prepare_worker(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the main process, which then stops us
    cv2.setNumThreads(1)
    # libtiff and its like write there about each damaged picture, without its name.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """A worker whose main process was killed would wait for work for ever."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def _decode_chunk(requests: list[_Request], image_size: int) -> tuple[list[Outcome], np.ndarray]:
    downloads = fetched([request.url for request in requests if request.url is not None])
    outcomes = []
    with closing(downloads):
        for request in requests:
            download = None if request.url is None else next(downloads)
            with _last_resort():
                outcomes.append(_decode_one(request, image_size, download))
    pixels = [outcome.pixels for outcome in outcomes if outcome.pixels is not None]
    packed = np.stack(pixels) if pixels else np.empty((0, image_size, image_size, 3), np.uint8)
    return [replace(outcome, pixels=None) for outcome in outcomes], packed


@contextmanager
def _last_resort() -> Iterator[None]:
    """End this process where a decoder does not come back; nothing else gets a word in while it works."""
    with open(os.devnull, "w") as nowhere:
        faulthandler.dump_traceback_later(DECODE_SECONDS, exit=True, file=nowhere)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()


def _decode_one(request: _Request, image_size: int, download: bytes | SpyglassError | None = None) -> Outcome:
    if request.problem is not None:
        return Outcome(problem=request.problem)
    try:
        data = _bytes_of(request) if download is None else download
        if isinstance(data, SpyglassError):
            raise data
        sha256 = hashlib.sha256(data).hexdigest()
        if sha256 == request.known_sha256:
            return Outcome(sha256=sha256, num_bytes=len(data), unchanged=True)
        decoded = decode(data, image_size)
    except SpyglassError as error:
        return Outcome(problem=str(error))
    except OSError as error:
        return Outcome(problem=f"expected a file that can be read, got: {error.strerror or error}")
    except Exception as error:  # whatever a hostile file makes a decoder raise: it must not stop the others
        return Outcome(problem=f"expected a picture that decodes, got {type(error).__name__}: {error}")
    return Outcome(
        sha256=sha256, num_bytes=len(data), width=decoded.width, height=decoded.height, pixels=decoded.pixels
    )


def _bytes_of(request: _Request) -> bytes:
    if request.data is not None:
        return request.data
    return read_file(Path(request.path)) if request.url is None else remote.read(request.url)
