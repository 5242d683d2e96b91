"""The answers that were asked for last, so that nothing is computed twice while it is looked at."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from retrieval.errors import UsageError

T = TypeVar("T")


class Latest(Generic[T]):
    """Answers by their keys, as many as take at most `max_size` together; for many threads at once.

    `size_of` one is its bytes, for example; by default 1: then `max_size` is how many there are. Raises `UsageError`.
    """

    def __init__(self, max_size: int, size_of: Callable[[T], int] = lambda answer: 1):
        if max_size < 0:
            raise UsageError(f"expected max_size of at least 0, got {max_size}")
        self._max_size = max_size
        self._size_of = size_of
        self._size = 0
        self._kept: OrderedDict[Hashable, T] = OrderedDict()  # the one asked for last comes last
        self._lock = threading.Lock()

    def get(self, key: Hashable, compute: Callable[[], T]) -> T:
        """The answer that is kept under `key`, or else what `compute` gives; what it raises is not kept."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        # Outside of the lock: two threads may compute the same, but none waits for another's.
        answer = compute()
        self.put(key, answer)
        return answer

    def put(self, key: Hashable, answer: T) -> None:
        """Keep an answer under `key`, in place of an earlier one."""
        with self._lock:
            if key in self._kept:
                self._size -= self._size_of(self._kept.pop(key))
            self._kept[key] = answer
            self._size += self._size_of(answer)
            while self._size > self._max_size:
                _, oldest = self._kept.popitem(last=False)
                self._size -= self._size_of(oldest)
