"""The settings of a training run of the embedder."""

from dataclasses import asdict, dataclass, field, replace

from retrieval.augment import AugmentConfig
from retrieval.coatnet import CONFIGS, CoAtNetConfig
from retrieval.errors import UsageError
from retrieval.nearest_name import did_you_mean
from retrieval.network import EmbedderConfig
from retrieval.stage_statistics import check_stages
from retrieval.timm_weights import CONFIGS as TIMM_CONFIGS
from retrieval.training.concentrate import ConcentrateConfig
from retrieval.training.shorten import ShortenConfig

LOSSES = ("softmax", "proxy_anchor", "multi_similarity", "supcon", "triplet")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Settings of one training run.

    `backbone`: a CoAtNet by name, or `timm:` and a name of timm's. `train_size`: side in pixels of the augmented crops;
    `image_size`: side of the pictures in use, larger, since crops make things look larger (Touvron et al. 2019,
    arXiv 1906.06423). `epochs`: 0 leaves the backbone as it is and teaches the heads alone. `batch_size` counts
    views, of all processes together, `views` a picture; an epoch shows as many views as there are pictures. `loss`:
    what teaches classes, on all prefixes or, if not `nested`, on the full length; `samples_per_class`: how many
    pictures a class has in a batch, 0 for as many as chance gives; `loss_learning_rate`: that of the loss's own
    parameters, the network's when left out. `instance_weight`: weight of telling pictures, or groups of them,
    apart, which takes two views or more. `ema_decay`: of the moving average of the weights, which is what is
    validated and kept; 0 for none. `token_dim`: numbers of a local token, 0 for an embedder without.
    `plain_unlabelled`: the pictures without labels are plain ones, such as icons, for which few numbers must do: the
    projection gets a correction for them. `statistics_of`: stages, 1 for S1, whose channel statistics join the pooled
    vector once the network is trained; those that a backbone has not, or has last, are left out.
    """

    backbone: str = "coatnet_mini"
    pooling: str = "sigmoid"
    attention: str = "pre"
    train_size: int = 64
    image_size: int = 96
    epochs: int = 18
    batch_size: int = 128
    views: int = 2
    learning_rate: float = 1.5e-3
    loss_learning_rate: float | None = None
    weight_decay: float = 0.05
    warmup_epochs: float = 1.0
    drop_path: float = 0.05
    token_dim: int = 64
    loss: str = "softmax"
    nested: bool = True
    samples_per_class: int = 0
    instance_weight: float = 0.5
    plain_unlabelled: bool = False
    statistics_of: tuple[int, ...] = (2,)
    ema_decay: float = 0.998
    clip_norm: float = 5.0
    checkpoint_steps: int = 150
    validate_every: int = 2
    seed: int = 0
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    concentrate: ConcentrateConfig = field(default_factory=ConcentrateConfig)
    shorten: ShortenConfig = field(default_factory=ShortenConfig)

    def __post_init__(self):
        _base(self.backbone)
        for name in ("views", "checkpoint_steps", "validate_every"):
            if getattr(self, name) < 1:
                raise UsageError(f"expected {name} of at least 1, got {getattr(self, name)}")
        if self.epochs < 0:
            raise UsageError(f"expected epochs of 0 (the heads alone) or more, got {self.epochs}")
        if self.batch_size < 2 * self.views:
            raise UsageError(
                f"expected a batch_size of at least two pictures' {self.views} views, got {self.batch_size}"
            )
        if self.batch_size % self.views:
            raise UsageError(f"expected a batch_size that is a multiple of {self.views} views, got {self.batch_size}")
        if self.instance_weight and self.views < 2:
            raise UsageError(f"expected two views or more to tell pictures apart by, got {self.views}")
        if self.loss not in LOSSES:
            meant = did_you_mean(self.loss, LOSSES)
            raise UsageError(f"expected a loss among {', '.join(LOSSES)}, got {self.loss!r}{meant}")
        if self.samples_per_class < 0 or self.samples_per_class and self.num_fresh % self.samples_per_class:
            raise UsageError(
                f"expected samples_per_class that divides the {self.num_fresh} pictures of a batch, "
                f"got {self.samples_per_class}"
            )
        check_stages(self.statistics_of)
        for name in ("ema_decay", "drop_path"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"expected {name} in [0, 1), got {getattr(self, name)}")
        for name in ("train_size", "image_size", "learning_rate", "loss_learning_rate", "clip_norm"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UsageError(f"expected {name} above 0, got {value}")
        for name in ("weight_decay", "warmup_epochs", "instance_weight", "token_dim"):
            if not getattr(self, name) >= 0:
                raise UsageError(f"expected {name} of at least 0, got {getattr(self, name)}")

    def to_dict(self) -> dict:
        """Plain values, for checkpoints and config.json."""
        return asdict(self)

    @property
    def num_fresh(self) -> int:
        """Pictures a step, or groups of them, each shown in `views` views."""
        return self.batch_size // self.views

    @property
    def projection_hidden(self) -> int:
        """Width of the net that corrects the projection, 0 for none."""
        return self.concentrate.num_hidden if self.plain_unlabelled else 0

    @property
    def embedder(self) -> EmbedderConfig:
        """The network that these settings describe, for a run that starts from none."""
        base = _base(self.backbone)
        transformer = replace(base.transformer, attention=self.attention)
        backbone = replace(base, transformer=transformer, drop_path=self.drop_path, image_size=self.train_size)
        return EmbedderConfig(
            backbone=backbone,
            pooling=self.pooling,
            image_size=self.image_size,
            token_dim=min(self.token_dim, backbone.channels[-1]),
        )


def _base(name: str) -> CoAtNetConfig:
    known = CONFIGS | {f"timm:{timm_name}": config for timm_name, config in TIMM_CONFIGS.items()}
    if name not in known:
        meant = did_you_mean(name, known)
        raise UsageError(f"expected a backbone among {', '.join(sorted(known))}, got {name!r}{meant}")
    return known[name]
