"""What earlier stages of the backbone add to the pooled vector: how each of their channels is spread over the picture.

The last map says what a picture shows, in the terms of the classes that it was trained on; earlier ones tell textures,
edges and colours apart, which classes never seen before, and one picture among its like, are known by.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from retrieval.device import full_precision
from retrieval.errors import UsageError

SHARE = 0.7
"""Of the spread of an attended channel; chosen on `val`."""

_LEAST_SPREAD = 1e-3  # of a number's size: what varies less is rounding


class StageStatistics(nn.Module):
    """Mean and standard deviation of each channel of some stages, over the locations where pooling looks.

    Attentive statistics pooling (Okabe et al. 2018, arXiv 1803.10963): with the attention α of the last map, resized to
    the stage's own, and h its features, μ = Σ α_t h_t (eq. 5) and σ² = Σ α_t h_t² − μ² (eq. 6); S numbers in all, those
    of a stage its means, then its deviations. Each is centred and scaled by what `fit` has set; a fresh one leaves them
    as they are.
    """

    def __init__(self, num_channels: Sequence[int]):
        super().__init__()
        num_statistics = 2 * sum(num_channels)
        self.register_buffer("centre_S", torch.zeros(num_statistics))
        self.register_buffer("scale_S", torch.ones(num_statistics))

    def forward(self, maps: Sequence[torch.Tensor], attention_BHW: torch.Tensor) -> torch.Tensor:
        """(B, S) from the stages' maps, each (B, C, h, w) of its own C, h and w, and the attention map (B, H, W)."""
        statistics = []
        for features_BCHW in map(full_precision, maps):
            size = features_BCHW.shape[-2:]
            weights_B1HW = F.interpolate(attention_BHW[:, None], size, mode="bilinear", align_corners=False)
            weights_B1HW = weights_B1HW / weights_B1HW.sum((2, 3), keepdim=True)
            mean_BC11 = (features_BCHW * weights_B1HW).sum((2, 3), keepdim=True)
            variance_BC = ((features_BCHW - mean_BC11).square() * weights_B1HW).sum((2, 3))
            # The root's slope has no bound at zero, where a channel is the same all over.
            statistics += [mean_BC11.flatten(1), variance_BC.clamp_min(1e-8).sqrt()]
        return (torch.cat(statistics, 1) - self.centre_S) * self.scale_S

    @torch.no_grad()
    def fit(self, statistics_NS: torch.Tensor, attended_NC: torch.Tensor) -> None:
        """Centre each number, and give it seven tenths of the spread that an attended channel has, in place.

        `statistics_NS`: what a fresh one says of N pictures, `attended_NC`: the pooled last map, both float32. A number
        that is the same for all of them stays at 0. Rounded to float16, as weights are stored, before anything is
        fitted to what comes out.
        """
        spread_S, centre_S = statistics_NS.std(0, correction=0), statistics_NS.mean(0)
        typical = attended_NC.var(0, correction=0).mean().sqrt()
        least_S = 1e-4 + _LEAST_SPREAD * centre_S.abs()
        scale_S = torch.where(spread_S > least_S, SHARE * typical / spread_S, 0.0)
        self.centre_S.copy_(centre_S.half())
        self.scale_S.copy_(scale_S.clamp_max(torch.finfo(torch.float16).max).half())

    @torch.no_grad()
    def forget(self) -> None:
        """Leave the numbers as they are again, in place."""
        self.centre_S.zero_()
        self.scale_S.fill_(1)


def check_stages(stages: Sequence[int]) -> None:
    """Raise `UsageError` for what are no numbers of stages, from 1, that grow."""
    are_whole = isinstance(stages, tuple) and all(type(stage) is int and stage >= 1 for stage in stages)
    if not are_whole or [*stages] != sorted({*stages}):
        raise UsageError(f"expected statistics_of as a tuple of stages that grow, from 1, got {stages!r}")
