"""Training losses on nested prefixes of one embedding; the standard ones are those of pytorch-metric-learning.

All are called with `projected_BD` (B, D), which need not be normalised, `targets_B` (B,) int64 classes, −1 for pictures
without a label, which are left out, and the `widths` of the prefixes, over which they take the mean.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from pytorch_metric_learning.losses import MultiSimilarityLoss, ProxyAnchorLoss, SupConLoss, TripletMarginLoss
from pytorch_metric_learning.miners import MultiSimilarityMiner
from torch import nn

from retrieval.errors import UsageError
from retrieval.nearest_name import did_you_mean

UNLABELLED = -1


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

    @property
    def class_vectors(self) -> nn.Parameter:
        """(K, D): what stands for each class."""
        return self.proxies_KD

    def forward(self, projected_BD: torch.Tensor, targets_B: torch.Tensor, widths: Sequence[int]) -> torch.Tensor:
        """Mean over `widths` of the mean cross entropy, a scalar; 0 where no picture has a label."""
        num_labelled = (targets_B != UNLABELLED).sum().clamp_min(1)
        losses = []
        for width in widths:
            prefix_BW = F.normalize(projected_BD[:, :width], dim=-1)
            proxies_KW = F.normalize(self.proxies_KD[:, :width], dim=-1)
            logits_BK = prefix_BW @ proxies_KW.T / self.temperature
            # torch's own mean over no pictures would be no number.
            total = F.cross_entropy(
                logits_BK,
                targets_B,
                label_smoothing=self.label_smoothing,
                ignore_index=UNLABELLED,
                reduction="sum",
            )
            losses.append(total / num_labelled)
        return torch.stack(losses).mean()


class NestedProxyAnchor(nn.Module):
    """Proxy-Anchor (Kim et al. 2020, arXiv 2003.13911, eq. 4) on each prefix, with prefixes of one set of proxies."""

    def __init__(self, num_dims: int, num_classes: int):
        super().__init__()
        self.anchor = _PrefixProxyAnchor(num_classes, num_dims)

    @property
    def class_vectors(self) -> nn.Parameter:
        """(K, D): what stands for each class."""
        return self.anchor.proxies

    def forward(self, projected_BD: torch.Tensor, targets_B: torch.Tensor, widths: Sequence[int]) -> torch.Tensor:
        """Mean over `widths`, a scalar; 0 where no picture has a label."""
        is_labelled_B = targets_B != UNLABELLED
        if not is_labelled_B.any():
            return 0 * (projected_BD.sum() + self.anchor.proxies.sum())
        labelled_BD, targets_B = projected_BD[is_labelled_B], targets_B[is_labelled_B]
        return torch.stack([self.anchor(labelled_BD[:, :width], targets_B) for width in widths]).mean()


class NestedPairs(nn.Module):
    """A standard loss over the pairs of a batch on each prefix: `"multi_similarity"`, `"supcon"` or `"triplet"`.

    Multi-similarity (Wang et al. 2019, arXiv 1904.06627) with its mining of pairs; supervised contrastive (Khosla et
    al. 2020, arXiv 2004.11362, eq. 2); triplets with a margin (Schroff et al. 2015, arXiv 1503.03832).
    """

    class_vectors = None

    def __init__(self, kind: str):
        super().__init__()
        self.pairs, self.miner = _PAIR_LOSSES[kind]()

    def forward(self, projected_BD: torch.Tensor, targets_B: torch.Tensor, widths: Sequence[int]) -> torch.Tensor:
        """Mean over `widths`, a scalar; 0 where no picture has a label."""
        is_labelled_B = targets_B != UNLABELLED
        if not is_labelled_B.any():
            return 0 * projected_BD.sum()
        labelled_BD, targets_B = projected_BD[is_labelled_B], targets_B[is_labelled_B]
        losses = []
        for width in widths:
            prefix_BW = F.normalize(labelled_BD[:, :width], dim=-1)
            mined = None if self.miner is None else self.miner(prefix_BW, targets_B)
            losses.append(self.pairs(prefix_BW, targets_B, mined))
        return torch.stack(losses).mean()


class _PrefixProxyAnchor(ProxyAnchorLoss):
    """Compares embeddings with as many numbers of the proxies as they have."""

    def get_logits(self, embeddings: torch.Tensor) -> torch.Tensor:
        return self.distance(embeddings, self.proxies[:, : embeddings.shape[1]])


_PAIR_LOSSES = {
    "multi_similarity": lambda: (MultiSimilarityLoss(), MultiSimilarityMiner()),
    "supcon": lambda: (SupConLoss(), None),
    "triplet": lambda: (TripletMarginLoss(), None),
}


def create(kind: str, num_dims: int, num_classes: int) -> nn.Module:
    """A loss by name: `"softmax"`, `"proxy_anchor"`, `"multi_similarity"`, `"supcon"` or `"triplet"`.

    Raises `UsageError` for another name.
    """
    if kind == "softmax":
        return NestedSoftmax(num_dims, num_classes)
    if kind == "proxy_anchor":
        return NestedProxyAnchor(num_dims, num_classes)
    if kind not in _PAIR_LOSSES:
        known = ("softmax", "proxy_anchor", *_PAIR_LOSSES)
        raise UsageError(f"expected a loss among {', '.join(known)}, got {kind!r}{did_you_mean(kind, known)}")
    return NestedPairs(kind)
