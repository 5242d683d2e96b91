"""Batches across clients: questions that come at nearly the same time are answered together."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from retrieval.errors import BusyError


class QueryBatches:
    """Collects questions, and has one thread answer them, up to `max_batch` at once.

    A question waits `window_seconds` for others, less where the batch is full before: what comes while the thread is
    busy with the batch before has waited already. `answer` returns a result for each question, or the exception that
    it is to raise. `on_batch` is told how many questions a batch has.
    """

    def __init__(
        self,
        answer: Callable[[Sequence[Any]], Sequence[Any]],
        *,
        window_seconds: float,
        max_batch: int,
        max_waiting: int,
        on_batch: Callable[[int], None] = lambda num: None,
    ):
        self._answer = answer
        self._window_seconds = window_seconds
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._on_batch = on_batch
        self._waiting: deque[tuple[float, Any, Future]] = deque()
        self._changed = threading.Condition()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="query batches", daemon=True)
        self._thread.start()

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    async def ask(self, question: Any) -> Any:
        """The answer to a question; raises `BusyError` where too many wait before it, and what `answer` says."""
        future: Future = Future()
        with self._changed:
            if self._is_closed or len(self._waiting) >= self._max_waiting:
                raise BusyError(f"expected at most {self._max_waiting} queries to wait, got more; come back later")
            self._waiting.append((time.monotonic(), question, future))
            self._changed.notify()
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Answer what waits, take nothing more, and end the thread."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while batch := self._next():
            asked = [(question, future) for question, future in batch if future.set_running_or_notify_cancel()]
            if not asked:
                continue
            self._on_batch(len(asked))
            try:
                results = self._answer([question for question, _ in asked])
            except Exception as error:  # the thread must live on: each of those who wait is told
                results = [error] * len(asked)
            for (_, future), result in zip(asked, results, strict=True):
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)

    def _next(self) -> list[tuple[Any, Future]]:
        """The next batch; an empty one where there are no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closed)
            while self._waiting and len(self._waiting) < self._max_batch and not self._is_closed:
                seconds_left = self._waiting[0][0] + self._window_seconds - time.monotonic()
                if seconds_left <= 0:
                    break
                self._changed.wait(seconds_left)
            num = min(self._max_batch, len(self._waiting))
            return [self._waiting.popleft()[1:] for _ in range(num)]
