"""How pictures are added: what can be asked for, checked before anything is read."""

from collections.abc import Callable
from dataclasses import dataclass

from indexer.sources.encode_config import EncodeConfig
from retrieval.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class AddConfig(EncodeConfig):
    """How to add: see `Index.add`."""

    label_from: str | None = None
    exclude_dirs: tuple[str, ...] = ()
    on_error: str = "skip"
    prune: bool | str = False
    retry_failed: bool = False
    on_progress: Callable[[int, int | None], None] | None = None

    def __post_init__(self):
        super().__post_init__()
        if self.on_error not in ("skip", "stop"):
            raise UsageError(f"expected on_error 'skip' or 'stop', got {self.on_error!r}")
        if self.prune not in (False, True, "all"):
            raise UsageError(f"expected prune as True, False or 'all', got {self.prune!r}")
        if self.prune and self.retry_failed:
            raise UsageError("expected prune or retry_failed, got both; what failed tells nothing of what has vanished")
