"""How pictures are decoded and encoded, many at a time: what every run of that can be told."""

from dataclasses import dataclass

from retrieval.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class EncodeConfig:
    """`num_workers` processes decode (None: one a CPU; 0: this one does); what is encoded is committed every
    `commit_seconds` and at the end, also at an early one.
    """

    batch_size: int = 64
    num_workers: int | None = None
    show_progress_bar: bool = False
    commit_seconds: float = 20.0

    def __post_init__(self):
        if self.num_workers is not None and self.num_workers < 0:
            raise UsageError(f"expected num_workers of 0 (decode in this process) or more, got {self.num_workers}")
        if self.batch_size < 1:
            raise UsageError(f"expected a batch_size of at least 1, got {self.batch_size}")

    @property
    def num_processes(self) -> int:
        """How many processes decode beside this one."""
        import loky

        return loky.cpu_count() if self.num_workers is None else self.num_workers
