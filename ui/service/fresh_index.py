"""The index as it is now: a newer snapshot takes the place of the one in use once it is ready to answer."""

import logging
import threading
from typing import Any

import numpy as np

from indexer import Index

_log = logging.getLogger("spyglass.service")


class FreshIndex:
    """Looks every `poll_seconds`, in a thread of its own, whether the index has changed on disk.

    `current` is the snapshot to use: whoever has taken it finishes with it, however often it is replaced meanwhile. A
    newer one that cannot be read is reported to the log, and the one in use stays.
    """

    def __init__(self, index: Index, *, poll_seconds: float):
        warm(index)
        self._current = index
        self._poll_seconds = poll_seconds
        self._complaint = ""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="index snapshots", daemon=True)
        self._thread.start()

    @property
    def current(self) -> Index:
        return self._current

    def close(self) -> None:
        """Look no more."""
        self._ended.set()
        self._thread.join()

    def look(self) -> None:
        """Put a newer snapshot, if there is one, into the place of the current one."""
        newer = self._current.newer()
        if newer is not None:
            warm(newer)
            self._current = newer

    def _run(self) -> None:
        while not self._ended.wait(self._poll_seconds):
            try:
                self.look()
                self._complaint = ""
            except Exception as error:  # whatever it is, the thread must look again
                if str(error) != self._complaint:  # once, not every second
                    self._complaint = str(error)
                    _log.error("expected to read the newest snapshot, but keep the one in use: %s", error)


def warm(index: Any) -> None:
    """Make an index ready to answer: model, vectors, and ranker are read by a first search."""
    side = index.embedder.image_size
    stripes = np.zeros((side, side, 3), np.uint8)
    stripes[::2] = 255
    index.search(stripes, top_k=1)
