"""The settings of a joint training run of embedder and ranker."""

from dataclasses import dataclass, field

from retrieval.augment import AugmentConfig
from retrieval.errors import UsageError
from retrieval.nearest_name import did_you_mean
from retrieval.training.ranking_losses import RANKING_LOSSES


@dataclass(frozen=True, kw_only=True)
class JointConfig:
    """Settings of one joint training run.

    A step shows `num_queries` with `num_candidates` each, in crops of `train_size` pixels. The loss is
    `ranking_weight` × the ranking `loss` + `embedder_weight` × that of the embedder; with a `ranking_weight` of 0 the
    ranker is left alone, which is what joint training is compared with. `learning_rate` is the network's. The
    candidates are looked up again every `refresh_steps`.
    """

    steps: int = 2000
    num_queries: int = 8
    num_candidates: int = 12
    train_size: int = 80
    loss: str = "pairwise"
    ranking_weight: float = 1.0
    embedder_weight: float = 1.0
    learning_rate: float = 1e-4
    ranker_learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup_steps: int = 100
    clip_norm: float = 5.0
    refresh_steps: int = 500
    token_bytes: int = 1024
    seed: int = 0
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def __post_init__(self):
        if self.loss not in RANKING_LOSSES:
            meant = did_you_mean(self.loss, RANKING_LOSSES)
            raise UsageError(f"expected a loss among {', '.join(RANKING_LOSSES)}, got {self.loss!r}{meant}")
        for name, least in (("steps", 1), ("num_queries", 1), ("num_candidates", 2), ("refresh_steps", 1)):
            if getattr(self, name) < least:
                raise UsageError(f"expected {name} of at least {least}, got {getattr(self, name)}")
        for name in ("train_size", "learning_rate", "ranker_learning_rate", "clip_norm"):
            if not getattr(self, name) > 0:
                raise UsageError(f"expected {name} above 0, got {getattr(self, name)}")
        for name in ("weight_decay", "warmup_steps", "token_bytes"):
            if not getattr(self, name) >= 0:
                raise UsageError(f"expected {name} of at least 0, got {getattr(self, name)}")
        if min(self.ranking_weight, self.embedder_weight) < 0 or not self.ranking_weight + self.embedder_weight:
            raise UsageError(
                f"expected weights of 0 or more, one of them above, got {self.ranking_weight}, {self.embedder_weight}"
            )
