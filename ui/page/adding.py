"""Adding a folder to the index while the page stays open: a job of the server, which any reload finds again."""

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from retrieval.errors import SpyglassError

if TYPE_CHECKING:
    from indexer import AddReport, Index


_BATCH = 16  # small: what was read but not encoded yet when somebody stops is read again the next time


class _StoppedError(Exception):
    """The visitor has asked to stop; what was encoded by then is kept."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far it is: `num_done` of `num_images`, None where nobody knows yet how many there are."""

    num_done: int = 0
    num_images: int | None = None

    @property
    def share(self) -> float:
        """In 0..1; 0 where it is not known."""
        return min(1.0, self.num_done / self.num_images) if self.num_images else 0.0


class Adding:
    """Adds the pictures of `source` to an index of its own handle, in a thread that starts at once."""

    def __init__(self, index: "Index", source: str, *, label_from: str | None = None):
        self.source = source
        self.progress = Progress()
        self.report: AddReport | None = None
        self.problem: str | None = None
        self._index = index
        self._label_from = label_from
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="adding", daemon=True)
        self._thread.start()

    @property
    def is_running(self) -> bool:
        """Whether it still adds."""
        return self._thread.is_alive()

    @property
    def was_stopped(self) -> bool:
        """Whether somebody asked it to stop."""
        return self._stop.is_set()

    def stop(self) -> None:
        """Let it end after the picture at hand, and wait for that; what is encoded stays in the index."""
        self._stop.set()
        self._thread.join(timeout=30)

    def _run(self) -> None:
        try:
            self.report = self._index.add(
                self.source, label_from=self._label_from, num_workers=0, batch_size=_BATCH, on_progress=self._note
            )
        except _StoppedError:
            return
        except SpyglassError as error:
            self.problem = str(error)
        except Exception as error:  # whoever looks at the page must learn of it: nobody joins this thread
            self.problem = f"unexpected {type(error).__name__}: {error}"

    def _note(self, num_done: int, num_images: int | None) -> None:
        self.progress = Progress(num_done=num_done, num_images=num_images)
        if self._stop.is_set():
            raise _StoppedError
