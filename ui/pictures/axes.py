"""The axes of one plot: where values lie in it, and the lines and numbers that tell so."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ui.palette import EDGE, FAINT_INK, SOFT_INK
from ui.pictures.drawing import Pen, ticks


@dataclass(frozen=True, kw_only=True)
class Axes:
    """A plot's edges in pixels; upwards from `low` to `high`, to the right as far (0..1) as `share` says of a place."""

    left: float
    top: float
    right: float
    bottom: float
    low: float
    high: float
    share: Callable[[float], float]

    def x(self, place: float) -> float:
        return self.left + self.share(place) * (self.right - self.left)

    def y(self, value: float) -> float:
        return self.bottom - (value - self.low) / (self.high - self.low) * (self.bottom - self.top)

    def place(self, place: float, value: float) -> tuple[float, float]:
        return self.x(place), self.y(value)

    def draw(self, pen: Pen, places: Iterable[float], label: str) -> None:
        """Lines across at round values; below, a mark at each of `places`, and what they are."""
        for tick in ticks(self.low, self.high):
            y = self.y(tick)
            pen.line([(self.left, y), (self.right, y)], EDGE)
            pen.text((self.left - 10, y), f"{tick:g}", SOFT_INK, 12, "rm")
        pen.line([(self.left, self.bottom), (self.right, self.bottom)], FAINT_INK)
        for place in places:
            x = self.x(place)
            pen.line([(x, self.bottom), (x, self.bottom + 5)], FAINT_INK)
            pen.text((x, self.bottom + 21), f"{place:g}", SOFT_INK, 12, "ms")
        pen.text(((self.left + self.right) / 2, self.bottom + 43), label, SOFT_INK, 13, "ms")
