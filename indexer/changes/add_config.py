"""How pictures are added: what can be asked for, checked before anything is read."""

from collections.abc import Callable
from dataclasses import dataclass

from indexer.sources.encode_config import EncodeConfig
from retrieval.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class AddConfig(EncodeConfig):
    """How to add: see `Index.add`.

    `label_from` is "parent" or a column. A picture that cannot be read is reported (`on_error` "skip") or raised as
    `ImageError` ("stop"); `retry_failed`, without sources, tries again what no run before could read. `on_progress` is
    called after each picture with how many are done and how many there are (None: not known).

    With `prune` ids are deleted that came from these sources and are not in them any more, once all is read. What
    cannot be read is not pruned, and a loss that looks like a disk which is not mounted is a `SourceError` unless
    `prune` is "all" (`indexer.changes.pruning`).
    """

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
