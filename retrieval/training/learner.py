"""What the first stage trains: the network, and with it what only that stage needs."""

import torch
import torch.nn.functional as F
from pytorch_metric_learning.losses import SupConLoss
from pytorch_metric_learning.reducers import MeanReducer
from torch import nn

from retrieval import losses
from retrieval.distributed import gather_rows
from retrieval.network import EmbedderNetwork
from retrieval.training.train_config import TrainConfig


class Learner(nn.Module):
    """The network, a loss over the classes where there are any, and a map that tells pictures apart.

    The instance loss is supervised contrastive (Khosla et al. 2020, arXiv 2004.11362, eq. 2) on a linear map of the
    pooled vector, with pictures, or groups of them, for classes: views of one are each other's positives. For two views
    a picture it is that of SimCLR (Chen et al. 2020, arXiv 2002.05709, eq. 1), in memory that grows as the square of
    the batch.
    """

    def __init__(self, network: EmbedderNetwork, config: TrainConfig, num_classes: int):
        super().__init__()
        self.network = network
        self.nested = config.nested
        self.instance_weight = config.instance_weight
        self.classify = losses.create(config.loss, network.config.num_dims, num_classes) if num_classes else None
        self.view = nn.Linear(network.config.num_pooled, 128)
        self.tell_apart = SupConLoss(temperature=0.15, reducer=MeanReducer())

    def draw_widths(self) -> tuple[int, ...]:
        """The prefixes of a step: all widths and a random one, from torch's global generator; or the last alone."""
        widths = self.network.config.widths
        if not self.nested:
            return widths[-1:]
        return (*widths, int(torch.randint(widths[0], widths[-1] + 1, ())))

    def forward(
        self,
        pixels_B3HW: torch.Tensor,
        targets_B: torch.Tensor,
        instances_B: torch.Tensor,
        widths: tuple[int, ...],
    ) -> torch.Tensor:
        """The loss of one batch of views; `instances_B` numbers the picture, or the group, that each view shows.

        With several processes `pixels_B3HW` is this one's slice, targets and instances those of the whole batch.
        """
        return self.loss_of(gather_rows(self.network.pool(pixels_B3HW).pooled), targets_B, instances_B, widths)

    def loss_of(
        self, pooled_BC: torch.Tensor, targets_B: torch.Tensor, instances_B: torch.Tensor, widths: tuple[int, ...]
    ) -> torch.Tensor:
        """The loss of views that are pooled already, (B, C) in full precision; the rest as `forward`."""
        # Logits reach the inverse of the temperature, where bfloat16 is too coarse.
        with torch.autocast(pooled_BC.device.type, enabled=False):
            loss = pooled_BC.new_zeros(())
            if self.classify is not None:
                loss = loss + self.classify(self.network.projection(pooled_BC), targets_B, widths)
            if self.instance_weight:
                loss = loss + self.instance_weight * self.tell_apart(self.view(pooled_BC), instances_B)
        return loss

    @torch.no_grad()
    def start_classes_at(self, pooled_NC: torch.Tensor, targets_N: torch.Tensor) -> None:
        """Point each class's vector at the mean of its pictures, in place, so that it does not spoil a trained network.

        `pooled_NC` on the CPU, as `pooled_vectors` gives them; unlabelled pictures (target −1) are left out. Classes of
        which there is no picture keep their random vectors.
        """
        vectors_KD = None if self.classify is None else self.classify.class_vectors
        if vectors_KD is None:
            return
        device = vectors_KD.device
        pooled_NC, targets_N = pooled_NC[targets_N >= 0].to(device), targets_N[targets_N >= 0].to(device)
        unit_ND = F.normalize(self.network.projection(pooled_NC), dim=-1)
        sums_KD = torch.zeros_like(vectors_KD).index_add_(0, targets_N, unit_ND)
        present_K = targets_N.unique()
        # Of the length that random vectors of so many numbers have.
        vectors_KD[present_K] = F.normalize(sums_KD[present_K], dim=-1) * vectors_KD.shape[1] ** 0.5


def parameter_groups(learner: Learner, config: TrainConfig) -> list[dict]:
    """Parameters for the optimizer, each group with `lr_factor`, its learning rate over the network's.

    Weights that multiply are decayed; biases, norms and tables are not.
    """
    of_loss = {} if learner.classify is None else {id(p) for p in learner.classify.parameters()}
    loss_factor = 1.0 if config.loss_learning_rate is None else config.loss_learning_rate / config.learning_rate
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {(True, 1.0): [], (False, 1.0): []}
    for name, parameter in learner.named_parameters():
        is_decayed = parameter.ndim > 1 and "relative_position" not in name
        factor = loss_factor if id(parameter) in of_loss else 1.0
        groups.setdefault((is_decayed, factor), []).append(parameter)
    return [
        {"params": parameters, "weight_decay": config.weight_decay if is_decayed else 0.0, "lr_factor": factor}
        for (is_decayed, factor), parameters in groups.items()
    ]
