"""Training augmentation: the usual crops, flips and colours, and changes of complexity made on purpose.

Pictures are (B, 3, H, W) float in 0..1. kornia does what is standard. What changes complexity, and so what the
embedding's length should follow, is below: clutter, mosaics and pasted pieces make a picture richer; blur, flat colours
and plain backgrounds make it plainer. The label stays: the main subject is always the largest thing in the picture.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from retrieval.errors import MissingExtraError, UsageError

try:
    import kornia.augmentation as K
    from kornia.filters import gaussian_blur2d
except ImportError as error:
    raise MissingExtraError(
        f"expected kornia for augmentation, found none ({error}); pip install 'spyglass-image-search[train]'"
    ) from None

Way = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Pictures (N, 3, H, W) and four others for each (N, 4, 3, H, W) to pictures of another complexity."""


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """How strongly training pictures are changed.

    `min_area`: smallest share of a picture that a crop keeps. `colour`: strength of changes of brightness, contrast and
    saturation, 0 for none. `vary_complexity`: share of the pictures that are made richer or plainer.
    """

    min_area: float = 0.3
    colour: float = 0.3
    vary_complexity: float = 0.3

    def __post_init__(self):
        if not 0 < self.min_area <= 1:
            raise UsageError(f"expected min_area in (0, 1], got {self.min_area}")
        if not 0 <= self.colour < 1:
            raise UsageError(f"expected colour in [0, 1), got {self.colour}")
        if not 0 <= self.vary_complexity <= 1:
            raise UsageError(f"expected vary_complexity in [0, 1], got {self.vary_complexity}")


class Augment(nn.Module):
    """(B, 3, H, W) in 0..1 to (B, 3, `image_size`, `image_size`) in 0..1; draws from torch's global generator."""

    def __init__(self, image_size: int, config: AugmentConfig):
        super().__init__()
        self.config = config
        self.standard = K.AugmentationSequential(
            K.RandomResizedCrop((image_size, image_size), scale=(config.min_area, 1.0), ratio=(3 / 4, 4 / 3)),
            K.RandomHorizontalFlip(p=0.5),
            K.ColorJiggle(config.colour, config.colour, config.colour, 0.05, p=0.8),
            K.RandomGrayscale(p=0.1),
            data_keys=["input"],
        )

    @torch.no_grad()
    def forward(self, pictures_B3HW: torch.Tensor) -> torch.Tensor:
        pictures = self.standard(pictures_B3HW).clamp(0, 1)
        changed = torch.rand(len(pictures)) < self.config.vary_complexity
        if changed.any():
            pictures[changed] = change(pictures, RICHER + PLAINER)[changed]
        return pictures


def clutter(pictures_N3HW: torch.Tensor, others_N43HW: torch.Tensor) -> torch.Tensor:
    """Four small copies of other pictures in the corners."""
    result, side = pictures_N3HW.clone(), max(1, pictures_N3HW.shape[-1] // 5)
    small_N43SS = F.interpolate(others_N43HW.flatten(0, 1), (side, side), mode="area").unflatten(0, (-1, 4))
    for i, (rows, columns) in enumerate(_corners(side)):
        result[:, :, rows, columns] = small_N43SS[:, i]
    return result


def mosaic(pictures_N3HW: torch.Tensor, others_N43HW: torch.Tensor) -> torch.Tensor:
    """The picture at two thirds of the side, other pictures tiled around it in thirds."""
    side = pictures_N3HW.shape[-1]
    third = side // 3
    small_N43SS = F.interpolate(others_N43HW.flatten(0, 1), (third, third), mode="area").unflatten(0, (-1, 4))
    background = small_N43SS[:, [0, 1, 2, 3, 0, 1, 2, 3, 0]].unflatten(1, (3, 3))
    tiled_N3HW = background.permute(0, 3, 1, 4, 2, 5).reshape(len(pictures_N3HW), 3, 3 * third, 3 * third)
    result = F.interpolate(tiled_N3HW, (side, side))
    main = side - third
    result[:, :, :main, :main] = F.interpolate(pictures_N3HW, (main, main), mode="area")
    return result


def paste_pieces(pictures_N3HW: torch.Tensor, others_N43HW: torch.Tensor) -> torch.Tensor:
    """A strip of another picture pasted over one side, a fifth to a third of the whole."""
    result, side = pictures_N3HW.clone(), pictures_N3HW.shape[-1]
    strip = int(torch.randint(side // 5, side // 3 + 1, ()))
    if torch.rand(()) < 0.5:
        result[..., :strip] = others_N43HW[:, 0, :, :, :strip]
    else:
        result[..., -strip:, :] = others_N43HW[:, 0, :, -strip:, :]
    return result


def blur(pictures_N3HW: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    """Gaussian blur with a sigma of one to two and a half hundredths of the side."""
    sigma = float(torch.empty(()).uniform_(0.01, 0.025)) * pictures_N3HW.shape[-1]
    size = 2 * int(2 * sigma + 1) + 1
    return gaussian_blur2d(pictures_N3HW, (size, size), (sigma, sigma))


def flatten_colours(pictures_N3HW: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    """Few levels a channel after a light blur: areas of flat colour, as in a drawing."""
    levels = int(torch.randint(3, 6, ()))
    return (gaussian_blur2d(pictures_N3HW, (5, 5), (1.2, 1.2)) * levels).round() / levels


def plain_background(pictures_N3HW: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    """The picture at half to four fifths of its side on one flat colour of its own."""
    side = pictures_N3HW.shape[-1]
    inner = int(torch.empty(()).uniform_(0.5, 0.8) * side)
    top, left = (int(torch.randint(side - inner + 1, ())) for _ in range(2))
    result = torch.rand(len(pictures_N3HW), 3, 1, 1).expand_as(pictures_N3HW).clone()
    result[..., top : top + inner, left : left + inner] = F.interpolate(pictures_N3HW, (inner, inner), mode="area")
    return result


RICHER = (clutter, mosaic, paste_pieces)
PLAINER = (blur, flatten_colours, plain_background)


@torch.no_grad()
def change(pictures_B3HW: torch.Tensor, ways: Sequence[Way]) -> torch.Tensor:
    """Each picture changed in one of the `ways`, drawn at random; what is added comes from the others of the batch."""
    way_of_B = torch.randint(len(ways), (len(pictures_B3HW),))
    result = torch.empty_like(pictures_B3HW)
    for i, way in enumerate(ways):
        chosen = (way_of_B == i).nonzero().squeeze(1)
        if len(chosen):
            others = torch.randint(len(pictures_B3HW), (len(chosen), 4))
            result[chosen] = way(pictures_B3HW[chosen], pictures_B3HW[others])
    return result


def _corners(side: int) -> list[tuple[slice, slice]]:
    first, last = slice(0, side), slice(-side, None)
    return [(first, first), (first, last), (last, first), (last, last)]
