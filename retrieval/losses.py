"""Training losses that know about nested prefixes; standard ones come from pytorch-metric-learning."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn


class NestedSoftmax(nn.Module):
    """Cosine softmax over the training classes, on each of several prefixes of one embedding.

    Prefixes as in Matryoshka representation learning (Kusupati et al. 2022, arXiv 2205.13147, eq. 1, with tied class
    vectors); cosine softmax as in Zhai and Wu 2019, arXiv 1811.12649, eq. 3: the logit of class c for the prefix of w
    numbers is cos(z[:w], v_c[:w]) / temperature.
    """

    def __init__(self, num_dims: int, num_classes: int, *, temperature: float = 0.06, label_smoothing: float = 0.1):
        super().__init__()
        self.proxies_KD = nn.Parameter(torch.randn(num_classes, num_dims))
        self.temperature = temperature
        self.label_smoothing = label_smoothing

    def forward(self, projected_BD: torch.Tensor, targets_B: torch.Tensor, widths: Sequence[int]) -> torch.Tensor:
        """Mean over `widths` of the cross entropy, a scalar; `projected_BD` need not be normalised."""
        losses = []
        for width in widths:
            prefix_BW = F.normalize(projected_BD[:, :width], dim=-1)
            proxies_KW = F.normalize(self.proxies_KD[:, :width], dim=-1)
            logits_BK = prefix_BW @ proxies_KW.T / self.temperature
            losses.append(F.cross_entropy(logits_BK, targets_B, label_smoothing=self.label_smoothing))
        return torch.stack(losses).mean()
