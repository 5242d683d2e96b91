"""The answers that were asked for last, so that nothing is computed twice while it is looked at."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from retrieval.errors import UsageError

T = TypeVar("T")


class Latest(Generic[T]):
    """At most `num_kept` answers by their keys; for many threads at once."""

    def __init__(self, num_kept: int):
        if num_kept < 1:
            raise UsageError(f"expected num_kept of at least 1, got {num_kept}")
        self._num_kept = num_kept
        self._kept: OrderedDict[Hashable, T] = OrderedDict()  # the one asked for last comes last
        self._lock = threading.Lock()

    def get(self, key: Hashable, compute: Callable[[], T]) -> T:
        """The answer that is kept under `key`, or else what `compute` gives; what it raises is not kept."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        answer = compute()
        with self._lock:
            self._kept[key] = answer
            self._kept.move_to_end(key)
            if len(self._kept) > self._num_kept:
                self._kept.popitem(last=False)
        return answer
