"""The settings of a training run of the ranker."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from retrieval.errors import UsageError
from retrieval.nearest_name import did_you_mean
from retrieval.training.ranking_losses import RANKING_LOSSES


@dataclass(frozen=True, kw_only=True)
class RankerTrainConfig:
    """Settings of one training run of a ranker on a frozen embedder.

    `batch_size`: queries a step, in equal shares from each set of examples. `num_candidates`: the most of a query's
    candidates that a step looks at, drawn at random where there are more. `queries_per_epoch`: how many queries an
    epoch shows; all that teach, when left out. `warmup`: the share of all steps in which the learning rate rises.
    `patience`: epochs without a better validation mAP after which training stops. `parts`: the names of the layer's
    parts that are trained while the others stay, such as `("weigh",)`; all of them, when empty. Kept are the
    weights of the epoch that validates best; with `keep_end` all epochs are run, and those of the last one are kept
    unless they validate worse than what training started from. `linear` makes settings for judgments.
    """

    loss: str = "pairwise"
    epochs: int = 12
    batch_size: int = 32
    num_candidates: int = 100
    queries_per_epoch: int | None = None
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    warmup: float = 0.05
    clip_norm: float = 1.0
    patience: int = 4
    parts: tuple[str, ...] = ()
    keep_end: bool = False
    seed: int = 0

    def __post_init__(self):
        if self.loss not in RANKING_LOSSES:
            meant = did_you_mean(self.loss, RANKING_LOSSES)
            raise UsageError(f"expected a loss among {', '.join(RANKING_LOSSES)}, got {self.loss!r}{meant}")
        if isinstance(self.parts, str) or len(set(self.parts)) < len(self.parts):
            raise UsageError(f"expected parts as a tuple of names that differ, got {self.parts!r}")
        for name in ("epochs", "batch_size", "patience"):
            if getattr(self, name) < 1:
                raise UsageError(f"expected {name} of at least 1, got {getattr(self, name)}")
        if self.num_candidates < 2:
            raise UsageError(f"expected num_candidates of at least 2, a pair, got {self.num_candidates}")
        if self.queries_per_epoch is not None and self.queries_per_epoch < 1:
            raise UsageError(f"expected queries_per_epoch of at least 1, got {self.queries_per_epoch}")
        if not self.learning_rate > 0:
            raise UsageError(f"expected a learning_rate above 0, got {self.learning_rate}")
        if not 0 <= self.warmup < 1:
            raise UsageError(f"expected a warmup in [0, 1), the share of all steps, got {self.warmup}")

    @classmethod
    def linear(cls, **settings: Any) -> "RankerTrainConfig":
        """To tune the linear weights of a trained `RelevanceAttention`, unless `settings` say otherwise.

        For what a few people judged: it takes ten steps an epoch however many they are, and forgets less of what the
        ranker has learned than training all of it does. So few judged queries tell epochs apart by chance alone: hence
        the end of the run is kept.
        """
        return cls(**_LINEAR | settings)

    def kept_epoch(self, maps: Sequence[float]) -> int:
        """Whose weights are kept, by the validation mAP before training and after each epoch so far."""
        end = len(maps) - 1
        if self.keep_end and end == self.epochs and maps[end] >= maps[0]:
            return end
        return max(range(len(maps)), key=maps.__getitem__)

    def to_dict(self) -> dict:
        """Plain values, for checkpoints and config.json."""
        return asdict(self)


_LINEAR = {
    "loss": "smooth_ap",
    "batch_size": 64,
    "queries_per_epoch": 640,
    "learning_rate": 0.3,
    "parts": ("weigh",),
    "keep_end": True,
}
