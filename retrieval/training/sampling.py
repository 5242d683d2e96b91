"""Which pictures a training step shows: a function of the seed and the step alone, so that a run can be taken up."""

import numpy as np
import torch
from pytorch_metric_learning.samplers import MPerClassSampler
from pytorch_metric_learning.utils import common_functions

from retrieval.errors import UsageError
from retrieval.training.train_config import TrainConfig


class Sampler:
    """Numbers of the pictures of each step, (B,) int64: the first views of `config.num_fresh` pictures, the second ...

    All pictures come up before one returns, or, with `samples_per_class`, each batch has that many of some classes.
    Further views are of the same picture, or of others of its group where it has any. `targets` and `instances` (N,) as
    in `LabelledImages`. Raises `UsageError` where they do not fill a batch.
    """

    def __init__(self, targets: np.ndarray, instances: np.ndarray, config: TrainConfig):
        self.config = config
        self.targets = targets
        if config.samples_per_class:
            if (targets < 0).any():
                raise UsageError(
                    f"expected labels on all pictures for samples_per_class, got {(targets < 0).sum()} without; "
                    "leave it at 0"
                )
            needed, num_classes = config.num_fresh // config.samples_per_class, len(np.unique(targets))
            if num_classes < needed:
                raise UsageError(f"expected at least {needed} classes for a batch, got {num_classes}; lower batch_size")
        self.steps_a_round = len(targets) // config.num_fresh
        if not self.steps_a_round:
            raise UsageError(f"expected at least {config.num_fresh} pictures for a batch, got {len(targets)}")
        self._groups = None if len(np.unique(instances)) == len(instances) else _Groups(instances)
        self._round, self._order = -1, torch.empty(0, dtype=torch.int64)

    def pictures_of(self, step: int) -> torch.Tensor:
        """(B,) int64."""
        round_, place = divmod(step, self.steps_a_round)
        if round_ != self._round:
            self._round, self._order = round_, self._order_of(round_)
        num_fresh = self.config.num_fresh
        fresh = self._order[place * num_fresh : (place + 1) * num_fresh]
        if self._groups is None:
            return fresh.repeat(self.config.views)
        generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + step)
        return self._groups.members_beside(fresh, self.config.views, generator)

    def _order_of(self, round_: int) -> torch.Tensor:
        seed = self.config.seed * 1_000_003 + round_
        if not self.config.samples_per_class:
            return torch.randperm(len(self.targets), generator=torch.Generator().manual_seed(seed))
        sampler = MPerClassSampler(
            self.targets,
            self.config.samples_per_class,
            batch_size=self.config.num_fresh,
            length_before_new_iter=self.steps_a_round * self.config.num_fresh,
        )
        # The sampler draws from the generator that the library keeps for all its parts, the way it is meant to be
        # seeded; a new sampler and a new generator each round leave no state from the rounds before.
        before, common_functions.NUMPY_RANDOM = common_functions.NUMPY_RANDOM, np.random.RandomState(seed % 2**32)
        try:
            return torch.tensor(list(sampler), dtype=torch.int64)
        finally:
            common_functions.NUMPY_RANDOM = before


class _Groups:
    """The members of each group, one group after the other."""

    def __init__(self, instances: np.ndarray):
        _, group_of_N, sizes_G = np.unique(instances, return_inverse=True, return_counts=True)
        order_N = np.argsort(group_of_N, kind="stable")
        starts_G = np.cumsum(sizes_G) - sizes_G
        self.order_N = torch.from_numpy(order_N)
        self.start_N = torch.from_numpy(starts_G[group_of_N])
        self.size_N = torch.from_numpy(sizes_G[group_of_N])
        self.place_N = torch.empty_like(self.order_N)
        self.place_N[self.order_N] = torch.arange(len(order_N)) - self.start_N[self.order_N]

    def members_beside(self, fresh_F: torch.Tensor, views: int, generator: torch.Generator) -> torch.Tensor:
        """(views · F,): the pictures, then other members of their groups, all different until a group is used up."""
        size_F = self.size_N[fresh_F]
        others_F = (size_F - 1).clamp_min(1)
        drawn_F = (torch.rand(len(fresh_F), generator=generator) * others_F).long()
        shown = [fresh_F]
        for view in range(views - 1):
            steps_on_F = 1 + (drawn_F + view) % others_F
            shown.append(self.order_N[self.start_N[fresh_F] + (self.place_N[fresh_F] + steps_on_F) % size_F])
        return torch.cat(shown)
