"""Threads for what must not hold up the event loop, a few of them, with a limit to what may wait for them."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from retrieval.errors import BusyError


class BoundedThreads:
    """`num_threads` threads, and room for `max_waiting` calls that wait for one of them."""

    def __init__(self, num_threads: int, max_waiting: int):
        self._threads = ThreadPoolExecutor(num_threads, thread_name_prefix="service")
        self._most = num_threads + max_waiting
        self._num_calls = 0  # changed by the event loop alone

    @property
    def num_calls(self) -> int:
        return self._num_calls

    async def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What `function` returns or raises, called in a thread; raises `BusyError` where too many calls wait."""
        if self._num_calls >= self._most:
            raise BusyError(f"expected at most {self._most} calls at once, got more; come back later")
        self._num_calls += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)
        finally:
            self._num_calls -= 1

    def close(self) -> None:
        """Finish what was begun or waits, and end the threads."""
        self._threads.shutdown()
