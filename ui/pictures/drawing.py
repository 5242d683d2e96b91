"""Drawing curves with Pillow: a pen that works in pixels of the finished picture, and round numbers for the axes.

Everything is drawn at three times the size and brought back, so that every edge is smooth.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import ImageDraw

from retrieval.errors import UsageError
from ui.lettering import font
from ui.palette import CARD, EDGE, INK, SOFT_INK

SCALE = 3
"""How much larger than the finished picture what a pen draws on is."""

_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def check_path(path: Path) -> None:
    """Raise `UsageError` for a picture whose name does not end like one."""
    if path.suffix.lower() not in _SUFFIXES:
        raise UsageError(f"expected a picture's name to end in {', '.join(_SUFFIXES)}, got {path}; try {path}.png")


@dataclass(frozen=True)
class Pen:
    """Draws in pixels of the finished picture."""

    draw: ImageDraw.ImageDraw

    def text(self, place: tuple[float, float], text: str, ink: str, size: int, anchor: str = "ls") -> None:
        self.draw.text(scaled(place), text, ink, font(size * SCALE), anchor=anchor)

    def line(self, places: Sequence[tuple[float, float]], ink: str, width: float = 1) -> None:
        self.draw.line([scaled(place) for place in places], ink, round(width * SCALE), joint="curve")

    def card(self, box: tuple[float, ...]) -> None:
        self.draw.rounded_rectangle(scaled(box), 16 * SCALE, CARD, EDGE, SCALE)

    def panel(self, box: tuple[float, ...], heading: str, explanation: str) -> None:
        """A card, and what it shows in its upper left corner."""
        self.card(box)
        self.text((box[0] + 24, box[1] + 36), heading, INK, 18)
        self.text((box[0] + 24, box[1] + 57), explanation, SOFT_INK, 13)

    def mark(self, kind: str, place: tuple[float, float], radius: float, ink: str) -> None:
        """A filled shape of its own for each kind, ringed in white so that it stands off what it covers."""
        for grown, fill in ((radius + 2, CARD), (radius, ink)):
            outline = [(place[0] + grown * dx, place[1] + grown * dy) for dx, dy in SHAPES[kind]]
            self.draw.polygon([scaled(corner) for corner in outline], fill)


def scaled(numbers: Sequence[float]) -> tuple[float, ...]:
    """Places in the finished picture as places in what is drawn on."""
    return tuple(number * SCALE for number in numbers)


def _ring(num_corners: int, start: float) -> list[tuple[float, float]]:
    angles = [math.tau * (start + corner / num_corners) for corner in range(num_corners)]
    return [(math.cos(angle), math.sin(angle)) for angle in angles]


SHAPES = {
    "disc": _ring(48, 0),
    "diamond": _ring(4, 0),
    "square": _ring(4, 1 / 8),
    "triangle": _ring(3, 3 / 4),
    "wedge": _ring(3, 1 / 4),
}


def ticks(low: float, high: float) -> list[float]:
    """Four to ten round numbers from `low` to `high`, 1, 2 or 5 times a power of ten apart."""
    exponent = math.floor(math.log10((high - low) / 10))
    step = next(
        factor * 10.0 ** (exponent + power)
        for power in (0, 1, 2)
        for factor in (1, 2, 5)
        if (high - low) / (factor * 10.0 ** (exponent + power)) <= 8
    )
    return [round(step * place, 10) for place in range(math.ceil(low / step), math.floor(high / step) + 1)]
