"""How pictures are added: what can be asked for, checked before anything is read."""

from collections.abc import Callable
from dataclasses import dataclass

from retrieval.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class AddConfig:
    """How to add: see `Index.add`."""

    label_from: str | None = None
    exclude_dirs: tuple[str, ...] = ()
    num_workers: int | None = None
    batch_size: int = 64
    on_error: str = "skip"
    prune: bool = False
    retry_failed: bool = False
    show_progress_bar: bool = False
    commit_seconds: float = 20.0
    on_progress: Callable[[int, int | None], None] | None = None

    def __post_init__(self):
        if self.num_workers is not None and self.num_workers < 0:
            raise UsageError(f"expected num_workers of 0 (decode in this process) or more, got {self.num_workers}")
        if self.batch_size < 1:
            raise UsageError(f"expected a batch_size of at least 1, got {self.batch_size}")
        if self.on_error not in ("skip", "stop"):
            raise UsageError(f"expected on_error 'skip' or 'stop', got {self.on_error!r}")
        if self.prune and self.retry_failed:
            raise UsageError("expected prune or retry_failed, got both; what failed tells nothing of what has vanished")
