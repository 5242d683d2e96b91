"""Draws the sample pictures: 30 kinds, from plain icons to crowded scenes, each kind with a known complexity.

    python data/sample_pictures.py OUT [--num-per-kind 28] [--size 256] [--seed 0]

Every picture takes its colours from one of eight palettes whatever its kind, so colour alone tells no kinds apart.
A picture depends on the seed, its kind and its number alone: it comes out the same however many processes draw.

Read it from the top: palettes, outlines (arrays of points), the pen that fills them, shapes that several kinds share,
then one `draw_` function a kind with its own parts after it, the table of kinds, and the writing.
"""

import argparse
import csv
import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import loky
import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFilter, ImageOps
from tqdm import tqdm

SUPERSAMPLING = 3
JPEG_QUALITY = 90

Colour = tuple[int, int, int]
Points = np.ndarray  # (N, 2) float, x to the right and y down
Rng = np.random.Generator

WHITE: Colour = (255, 255, 255)
DARK: Colour = (24, 20, 44)
LAMP: Colour = (255, 232, 165)


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """`share` 0 is a, 1 is b."""
    return tuple(round(p + (q - p) * share) for p, q in zip(a, b, strict=True))


def lighter(colour: Colour, share: float) -> Colour:
    return mix(colour, WHITE, share)


def darker(colour: Colour, share: float) -> Colour:
    return mix(colour, DARK, share)


def toned(colour: Colour, light: float) -> Colour:
    """Lighter where `light` is positive, darker where it is negative."""
    return mix(colour, WHITE if light > 0 else DARK, abs(light))


def lightness(colour: Colour) -> float:
    return float(np.dot(colour, (0.299, 0.587, 0.114)))


@dataclass(frozen=True)
class Palette:
    """Colours that go together: pairs run from top to bottom, or from far to near."""

    paper: Colour
    ink: Colour
    sky: tuple[Colour, Colour]
    night: tuple[Colour, Colour]
    land: tuple[Colour, Colour]
    accents: tuple[Colour, ...]

    @classmethod
    def parse(cls, row: str) -> "Palette":
        colours = [ImageColor.getrgb(name) for name in row.split()]
        return cls(*colours[:2], *(tuple(colours[i : i + 2]) for i in (2, 4, 6)), tuple(colours[8:]))

    def after_dark(self) -> "Palette":
        """The same scene by night."""
        veil = self.night[0]
        return replace(
            self,
            paper=mix(self.paper, veil, 0.25),
            sky=self.night,
            land=tuple(mix(colour, veil, 0.62) for colour in self.land),
            accents=tuple(mix(colour, veil, 0.18) for colour in self.accents),
        )


# A row is a palette: paper and ink, sky, night, land, accents (the third and the fourth are cool, so fit for water).
PALETTES = tuple(
    Palette.parse(row)
    for row in (
        "#f6ead7 #3b2f3a  #7fb7be #fbe3c0  #1f2440 #5a4a6f  #b3b06c #5f7346  #d1495b #edae49 #66a182 #2e5077 #f79256",
        "#fdf0ea #23395b  #5bc0be #fff1d0  #0b132b #3a506b  #8fcfb5 #3b8f83  #ff6b6b #ffd166 #06a69a #3d5a98 #f7a6a1",
        "#f7e6e4 #2d1e45  #5d4a86 #ffb58c  #1b1035 #6d3b74  #9a6f9c #54407a  #ff8c61 #ce6a85 #7a4d86 #4f6d9e #ffd08a",
        "#eef2f3 #22333b  #8fbdd3 #f0f4f2  #0f1c2e #3f6179  #b7c9b5 #6d8f84  #c8553d #e9b44c #588b8b #28536b #f2a391",
        "#f3f7e4 #2b3a2e  #7fc0e6 #f5f9da  #10243a #34647a  #b9d274 #4f8a4b  #e4572e #f3c63f #76b041 #2e86ab #e27396",
        "#fff0f5 #3c2a5e  #9cc0ff #ffe3ee  #231651 #7d4f9e  #b8e0c8 #62b6a0  #ff5d8f #ffca3a #4dc9b0 #6a7fdb #ff9770",
        "#faeedd #44281d  #e6a878 #fdf1d6  #2a1a2e #7a4b4a  #dfae74 #a8633f  #bc4b51 #f4a259 #5b8e7d #2f5d72 #8cb369",
        "#e6f4f1 #0f3b4c  #38a3c5 #d6f3ea  #04202c #19616f  #7cc6a6 #1f7a7a  #ee6c4d #f9c74f #2a9d8f #1d6f9b #f4978e",
    )
)


def pick(rng: Rng, choices: Sequence):
    return choices[int(rng.integers(len(choices)))]


def shuffled(rng: Rng, choices: Sequence) -> list:
    return [choices[i] for i in rng.permutation(len(choices))]


def against(rng: Rng, palette: Palette, *backgrounds: Colour, difference: float = 55) -> Colour:
    """A colour of the palette that stands out from the backgrounds."""
    choices = (*palette.accents, palette.ink, palette.paper)
    return pick(rng, [c for c in choices if min(abs(lightness(c) - lightness(b)) for b in backgrounds) > difference])


def time_of_day(rng: Rng, palette: Palette, night: float = 0.25) -> tuple[Palette, bool]:
    dark = bool(rng.random() < night)
    return (palette.after_dark() if dark else palette), dark


def box(left: float, top: float, right: float, bottom: float) -> Points:
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], float)


def oval(x: float, y: float, rx: float, ry: float | None = None, start: float = 0, stop: float = 360) -> Points:
    """An ellipse or, between two angles in degrees clockwise from the right, an arc of it."""
    angles = np.radians(np.linspace(start, stop, 49))
    return np.stack([x + rx * np.cos(angles), y + (rx if ry is None else ry) * np.sin(angles)], axis=1)


def rounded(left: float, top: float, right: float, bottom: float, radius: float) -> Points:
    x0, y0, x1, y1 = left + radius, top + radius, right - radius, bottom - radius
    corners = enumerate([(x1, y1), (x0, y1), (x0, y0), (x1, y0)])
    return np.concatenate([oval(x, y, radius, None, 90 * i, 90 * i + 90)[::6] for i, (x, y) in corners])


def mirrored(points: Sequence, *, across: bool = False) -> Points:
    """Closes one half of an outline with its mirror image below y = 0, or, `across`, beyond x = 0."""
    half = np.asarray(points, float)
    return np.concatenate([half, (half * ((-1, 1) if across else (1, -1)))[::-1]])


def star(num_points: int, inner: float) -> Points:
    angles = np.arange(2 * num_points) * np.pi / num_points
    radii = np.where(np.arange(2 * num_points) % 2, inner, 1.0)
    return np.stack([radii * np.sin(angles), -radii * np.cos(angles)], axis=1)


def petal(width: float, length: float = 1.0, tip: float = 1.0) -> Points:
    """A leaf from (0, 0) up to (0, -length); a larger `tip` moves its widest place outwards."""
    along = np.linspace(0, 1, 21)
    side = width * np.sin(np.pi * along**tip)
    return np.stack([np.r_[side, -side[::-1]], -length * np.r_[along, along[::-1]]], axis=1)


def smooth(points: Sequence, num_between: int = 8) -> Points:
    """A Catmull-Rom curve through the points."""
    p = np.asarray(points, float)
    p = np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
    t = np.linspace(0, 1, num_between, endpoint=False)[:, None]
    pieces = [
        0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
        for a, b, c, d in zip(p, p[1:], p[2:], p[3:], strict=False)
    ]
    return np.concatenate([*pieces, p[-2:-1]])


ROUND_END = [f(np.radians(np.linspace(-75, 75, 7)))[:, None] for f in (np.cos, np.sin)]


def ribbon(points: Sequence, start: float, stop: float | None = None) -> Points:
    """A line with round ends whose width runs from `start` to `stop`."""
    line = np.asarray(points, float)
    along = np.concatenate([line[1:2] - line[:1], line[2:] - line[:-2], line[-1:] - line[-2:-1]])
    along /= np.maximum(np.hypot(along[:, :1], along[:, 1:]), 1e-9)
    half = np.full((len(line), 1), start / 2) if stop is None else np.linspace(start, stop, len(line))[:, None] / 2
    side = np.stack([-along[:, 1], along[:, 0]], axis=1) * half
    cap = along[-1] * half[-1] * ROUND_END[0] - side[-1] * ROUND_END[1]
    back = -along[0] * half[0] * ROUND_END[0] + side[0] * ROUND_END[1]
    return np.concatenate([line + side, line[-1] + cap, (line - side)[::-1], line[0] + back])


def hill(rng: Rng, y: float, height: float, waves: float = 1.0) -> Points:
    """A rolling skyline about `y` over the whole width, closed at the bottom."""
    x = np.linspace(-0.1, 1.1, 61)
    ups = sum(np.sin(2 * np.pi * waves * k * x * rng.uniform(0.6, 1.1) + rng.uniform(0, 6.28)) / k for k in (1, 2, 3))
    return np.concatenate([np.stack([x, y - height / 2 * ups], axis=1), [(1.1, 1.1), (-0.1, 1.1)]])


class Pen:
    """Draws outlines on an image: (0, 0) is the top left and (1, 1) the bottom right, until `at` moves the frame."""

    def __init__(self, image: Image.Image, draw: ImageDraw.ImageDraw, frame: np.ndarray, unit: float):
        self.image, self.draw = image, draw
        self.frame = frame  # (2, 3): from this pen's coordinates to pixels
        self.unit = unit  # pixels

    @classmethod
    def on(cls, image: Image.Image) -> "Pen":
        frame = np.array([[image.width, 0.0, 0.0], [0.0, image.width, 0.0]])
        return cls(image, ImageDraw.Draw(image, "RGBA"), frame, image.width)

    def at(self, x: float, y: float, scale: float = 1.0, angle: float = 0.0, flip: bool = False) -> "Pen":
        """A pen whose origin is at (x, y) and whose unit is `scale` long, turned clockwise by `angle` degrees."""
        cos, sin, side = scale * math.cos(math.radians(angle)), scale * math.sin(math.radians(angle)), -1 if flip else 1
        step = np.array([[side * cos, -sin, x], [side * sin, cos, y], [0, 0, 1]])
        return Pen(self.image, self.draw, self.frame @ step, self.unit * float(scale))

    def pixel(self, x: float, y: float) -> tuple[float, float]:
        (a, b, c), (d, e, f) = self.frame.tolist()
        return a * x + b * y + c, d * x + e * y + f

    def pixels(self, points: Sequence) -> Points:
        return np.asarray(points) @ self.frame[:, :2].T + self.frame[:, 2]

    def fill(self, points: Sequence, colour: Colour, alpha: float = 1.0) -> None:
        self.draw.polygon(self.pixels(points).ravel().tolist(), fill=(*colour, round(255 * alpha)))

    def dot(self, x: float, y: float, radius: float, colour: Colour, alpha: float = 1.0) -> None:
        (cx, cy), r = self.pixel(x, y), radius * self.unit
        self.draw.ellipse((cx - r, cy - r, cx + r, cy + r), fill=(*colour, round(255 * alpha)))

    def line(
        self, points: Sequence, width: float, colour: Colour, alpha: float = 1.0, end: float | None = None
    ) -> None:
        self.fill(ribbon(points, width, end), colour, alpha)

    def model(self, points: Sequence, colour: Colour, *, across: bool = False) -> None:
        """Fills with one colour, lighter where the light comes from: above, or from the left."""
        self.shade(points, lighter(colour, 0.17), darker(colour, 0.25), across=across)

    def shade(self, points: Sequence, first: Colour, last: Colour, *, across: bool = False) -> None:
        """Fills with a gradient from the top to the bottom of the outline, or from left to right."""
        outline = self.pixels(points)
        low = np.maximum(np.floor(outline.min(axis=0)), 0).astype(int)
        high = np.minimum(np.ceil(outline.max(axis=0)) + 1, self.image.size).astype(int)
        if (high <= low).any():
            return
        size = tuple(int(n) for n in high - low)
        ramp = Image.linear_gradient("L")
        ramp = (ramp.transpose(Image.Transpose.ROTATE_90) if across else ramp).resize(size)
        mask = Image.new("L", size)
        ImageDraw.Draw(mask).polygon((outline - low).ravel().tolist(), fill=255)
        self.image.paste(ImageOps.colorize(ramp, first, last), tuple(low.tolist()), mask)

    def shadow(
        self, points: Sequence, *, blur: float = 0.06, alpha: float = 0.3, shift: Sequence = (0.06, 0.1)
    ) -> None:
        """The soft shadow of an outline; the light comes from the upper left whatever the frame."""
        outline, radius = self.pixels(points) + np.array(shift) * self.unit, blur * self.unit
        low, high = np.floor(outline.min(axis=0) - 3 * radius), np.ceil(outline.max(axis=0) + 3 * radius)
        size = (high - low).astype(int)
        small = Image.new("L", tuple((size // 4 + 1).tolist()))  # a blurred mask needs no more
        ImageDraw.Draw(small).polygon(((outline - low) / 4).ravel().tolist(), fill=round(255 * alpha))
        mask = small.filter(ImageFilter.GaussianBlur(radius / 4)).resize(tuple(size.tolist()))
        self.image.paste(DARK, tuple(low.astype(int).tolist()), mask)

    def glow(self, x: float, y: float, radius: float, colour: Colour, alpha: float = 0.6) -> None:
        (cx, cy), r = self.pixel(x, y), max(1, round(radius * self.unit))
        fading = [round(alpha * 255 * max(0, 1 - v / 180) ** 2) for v in range(256)]  # 181 is where the circle ends
        halo = Image.radial_gradient("L").point(fading)
        self.image.paste(colour, (round(cx) - r, round(cy) - r), halo.resize((2 * r, 2 * r)))

    def reflect(self, y: float, water: Colour, clearness: float, ripple: float) -> None:
        """Turns everything below `y` into water that mirrors what stands above it, blurred by its ripples."""
        height, level = self.image.height, round(y * self.image.height)
        depth = height - level
        above = np.asarray(self.image.crop((0, max(0, level - depth), self.image.width, level)))[::-1]
        rows = np.linspace(0, len(above) - 1, depth).astype(int)
        shift = np.sin(np.linspace(0, 1, depth) ** 0.6 * 150) * ripple * self.unit * np.linspace(0.3, 1, depth)
        columns = np.clip(np.arange(above.shape[1]) + shift[:, None], 0, above.shape[1] - 1).astype(int)
        mirrored = Image.fromarray(above[rows[:, None], columns])
        self.image.paste(Image.blend(Image.new("RGB", mirrored.size, water), mirrored, clearness), (0, level))


def plain_ground(pen: Pen, rng: Rng, palette: Palette) -> Colour:
    """Fills the picture with one quiet colour and returns it."""
    tinted = mix(pick(rng, palette.accents), pick(rng, (WHITE, palette.ink)), 0.25)
    colour = pick(rng, (palette.paper, tinted))
    pen.fill(box(0, 0, 1, 1), colour)
    return colour


def icon_pen(pen: Pen, rng: Rng, turn: float) -> Pen:
    x, y = rng.uniform(0.42, 0.58, 2)
    return pen.at(x, y, rng.uniform(0.2, 0.36), rng.uniform(-turn, turn))


def icon(pen: Pen, rng: Rng, palette: Palette, outline: Points, turn: float) -> tuple[Pen, Colour, Colour]:
    """One flat shape with a soft shadow; returns its pen, its colour and the background's."""
    ground = plain_ground(pen, rng, palette)
    colour, shape = against(rng, palette, ground), icon_pen(pen, rng, turn)
    shape.shadow(outline)
    shape.fill(outline, colour)
    return shape, colour, ground


def heaven(pen: Pen, rng: Rng, palette: Palette, dark: bool, *, num_clouds: int = 3, low: float = 0.4) -> None:
    """The sky: a gradient, the sun or a moon with stars, and clouds."""
    pen.shade(box(0, 0, 1, 1), *palette.sky)
    x, y, radius = rng.uniform(0.1, 0.9), rng.uniform(0.1, low), rng.uniform(0.035, 0.08)
    light = lighter(pick(rng, palette.accents[:2]), 0.75 if dark else 0.45)
    pen.glow(x, y, radius * 5, light, 0.55)
    pen.dot(x, y, radius, light)
    if dark:
        for _ in range(40):
            pen.dot(*rng.random(2), rng.uniform(0.001, 0.004), WHITE, rng.uniform(0.4, 0.95))
    for x, y in rng.uniform((0, 0.05), (1, low + 0.1), (num_clouds, 2)):
        cloud(pen.at(x, y, rng.uniform(0.05, 0.11)), rng, lighter(palette.sky[1], 0.1 if dark else 0.7))


def cloud(pen: Pen, rng: Rng, colour: Colour) -> None:
    pen.fill(rounded(-1.5, -0.3, 1.6, 0.3, 0.29), colour)
    for x in (-0.85, -0.2, 0.45, 0.95):
        pen.dot(x, -rng.uniform(0.1, 0.4), rng.uniform(0.38, 0.65), colour)


def waves(pen: Pen, rng: Rng, top: float, colour: Colour, num_waves: int) -> None:
    """Light streaks on water, wider and further apart towards the viewer."""
    for nearness in np.sort(rng.random(num_waves)):
        y, half = top + (1 - top) * nearness**1.3, rng.uniform(0.015, 0.05) * (0.4 + nearness)
        x = rng.uniform(0, 1)
        pen.line(smooth([(x - half, y), (x, y - half * 0.12), (x + half, y)], 4), 0.002 + 0.005 * nearness, colour, 0.5)


def tiny_birds(pen: Pen, rng: Rng, colour: Colour) -> None:
    x, y = rng.uniform((0.15, 0.1), (0.85, 0.35))
    for _ in range(rng.integers(2, 6)):
        bird = pen.at(x + rng.normal(0, 0.08), y + rng.normal(0, 0.04), rng.uniform(0.012, 0.025), rng.uniform(-15, 15))
        bird.line(smooth([(-1, -0.3), (-0.5, -0.5), (0, 0.1), (0.5, -0.5), (1, -0.3)], 4), 0.22, colour)


def fish_shape(pen: Pen, rng: Rng, body: Colour, fins: Colour, *, detail: bool) -> None:
    """A fish two units long that swims to the right."""
    deep = rng.uniform(0.38, 0.62)
    pen.fill(smooth([(-0.65, 0), (-1.25, -0.5), (-1.1, 0), (-1.25, 0.5), (-0.65, 0)]), fins)
    pen.fill(smooth([(0.35, -deep * 0.7), (-0.05, -deep - 0.38), (-0.5, -deep - 0.12), (-0.6, -0.1)]), fins)
    pen.fill(smooth([(0.05, deep * 0.7), (-0.3, deep + 0.25), (-0.45, deep * 0.5)]), fins)
    back = [(1, 0.02), (0.6, -deep * 0.75), (0, -deep), (-0.5, -deep * 0.5), (-0.85, 0)]
    pen.model(mirrored(smooth(back)), body)
    for x in np.linspace(-0.45, 0.35, int(rng.integers(2, 5))) if detail or rng.random() < 0.5 else ():
        height = deep * 0.86 * np.cos(x * 1.35) ** 0.8
        pen.line(smooth([(x, -height), (x + 0.1, 0), (x, height)]), 0.11, lighter(fins, 0.25))
    pen.fill(smooth([(0.2, 0.12), (-0.2, 0.02), (-0.3, 0.3), (0.15, 0.2)]), darker(fins, 0.12))
    pen.dot(0.64, -0.12, 0.11, WHITE)
    pen.dot(0.67, -0.12, 0.06, DARK)
    if detail:
        pen.line(smooth([(0.42, -deep * 0.6), (0.34, 0), (0.42, deep * 0.6)]), 0.035, darker(body, 0.4))
        pen.line(smooth([(0.98, 0.06), (0.9, 0.12), (0.8, 0.11)]), 0.03, darker(body, 0.5))


def sea(pen: Pen, rng: Rng, palette: Palette) -> Colour:
    """Fills the picture with water, light above and dark below, and returns its colour."""
    water = pick(rng, palette.accents[2:4])
    pen.shade(box(0, 0, 1, 1), lighter(water, 0.5), mix(water, palette.night[0], 0.55))
    return water


def bubbles(pen: Pen, rng: Rng, num_bubbles: int) -> None:
    for _ in range(num_bubbles):
        x, y, radius = *rng.random(2), rng.uniform(0.005, 0.02)
        pen.dot(x, y, radius, WHITE, 0.35)
        pen.dot(x - radius * 0.3, y - radius * 0.3, radius * 0.35, WHITE, 0.8)


def boat_shape(pen: Pen, rng: Rng, hull: Colour, sails: Sequence[Colour], *, sailing: bool) -> None:
    """A boat two units long whose waterline is y = 0; moored, it has bare masts or a cabin."""
    dark = darker(hull, 0.5)
    if sailing:
        pen.line([(0, -0.2), (0, -2.3)], 0.06, dark)
        pen.model(smooth([(0.06, -2.2), (0.55, -1.35), (0.85, -0.42), (0.06, -0.42)]), sails[0])
        pen.model(smooth([(-0.07, -2.0), (-0.3, -1.2), (-0.8, -0.45), (-0.07, -0.45)]), sails[1])
        pen.fill([(0, -2.3), (0, -2.12), (0.32, -2.21)], sails[0])
    elif rng.random() < 0.55:
        mast = rng.uniform(1.4, 2.4)
        pen.line([(0, -0.2), (0, -mast)], 0.05, dark)
        pen.line([(0, -mast), (0.9, -0.3)], 0.015, dark)
        pen.line([(0, -mast), (-0.9, -0.3)], 0.015, dark)
        pen.line([(0.02, -0.55), (0.75, -0.5)], 0.14, lighter(sails[0], 0.4))
    else:
        pen.fill(box(-0.6, -0.85, 0.05, -0.2), lighter(sails[0], 0.6))
        pen.fill(box(-0.68, -0.95, 0.15, -0.82), sails[1])
        for x in (-0.48, -0.18):
            pen.fill(box(x, -0.7, x + 0.16, -0.5), lighter(DARK, 0.25))
        pen.line([(0.45, -0.2), (0.45, -1.3)], 0.05, dark)
    pen.model(smooth([(-1, -0.32), (-0.78, 0.02), (0.7, 0.02), (1.1, -0.38)]), hull)
    pen.line([(-0.97, -0.27), (1.06, -0.32)], 0.07, lighter(hull, 0.7))


def pine(pen: Pen, colour: Colour, num_tiers: int = 4) -> None:
    """A fir one unit high that stands on (0, 0)."""
    pen.fill(box(-0.035, -0.2, 0.035, 0), darker(colour, 0.5))
    for tier in np.linspace(0, 1, num_tiers):
        top, bottom, half = -0.42 - 0.58 * tier, -0.1 - 0.6 * tier, 0.3 - 0.2 * tier
        right = [(0, top), (half * 0.5, (top + bottom) / 2 + 0.03), (half, bottom), (0, bottom + 0.04)]
        pen.fill(mirrored(smooth(right, 4), across=True), lighter(colour, 0.16 * tier))
        pen.fill([(0, top), (half * 0.9, bottom), (half * 0.2, bottom + 0.03)], DARK, 0.12)


def leafy_tree(pen: Pen, rng: Rng, colour: Colour, num_puffs: int, puff: float) -> None:
    """A broad tree about one unit high that stands on (0, 0)."""
    wood = mix(colour, (70, 40, 30), 0.75)
    pen.fill(mirrored(smooth([(0.11, 0.02), (0.045, -0.15), (0.05, -0.5)]), across=True), wood)
    for x, y in ((-0.25, -0.58), (0.27, -0.6), (0.1, -0.68)):
        pen.line([(0, -0.3), (x / 2, y / 2 - 0.2), (x, y)], 0.05, wood, end=0.015)
    spread = rng.normal(0, 1, (num_puffs, 2))
    spread *= np.minimum(1, 1.3 / np.linalg.norm(spread, axis=1, keepdims=True))
    for light in (-0.25, -0.07, 0.08, 0.2):  # dark leaves below, light ones above on the side of the sun
        for dx, dy in spread:
            radius = puff * rng.uniform(0.7, 1.3) * (1 - 1.5 * light)
            pen.dot(0.23 * dx - light * 0.25, -0.68 + 0.17 * dy - light * 0.4, radius, toned(colour, light))


def balloon_shape(pen: Pen, rng: Rng, colours: Sequence[Colour]) -> None:
    """A hot-air balloon: an envelope of radius 1 about (0, 0) and a basket below it."""
    for x in (-0.22, -0.08, 0.08, 0.22):
        pen.line([(x * 1.6, 1.1), (x, 1.6)], 0.025, DARK)
    pen.fill(rounded(-0.24, 1.58, 0.24, 1.9, 0.07), mix((120, 72, 40), colours[0], 0.15))
    dome, skirt = np.linspace(0, np.pi / 2, 16), np.linspace(0, 1, 10)
    height = np.r_[-np.cos(dome), 1.25 * skirt]
    half = np.r_[np.sin(dome), 1 - 0.72 * skirt**1.5]
    num_gores = 2 * int(rng.integers(3, 6))
    edges = np.sin(np.linspace(-np.pi / 2, np.pi / 2, num_gores + 1))
    for i, (left, right) in enumerate(pairwise(edges)):
        gore = np.concatenate([np.stack([left * half, height], 1), np.stack([right * half, height], 1)[::-1]])
        pen.fill(gore, mix(colours[i % len(colours)], DARK, 0.22 * (left + right + 1) / 3 if left + right > -1 else 0))
    if rng.random() < 0.6:
        band = np.r_[np.stack([half, height], 1)[10:16], np.stack([-half, height], 1)[15:9:-1]]
        pen.fill(band, lighter(colours[-1], 0.5))


def draw_disc(pen: Pen, rng: Rng, palette: Palette) -> None:
    icon(pen, rng, palette, oval(0, 0, 1), 0)


def draw_heart(pen: Pen, rng: Rng, palette: Palette) -> None:
    t = np.linspace(0, 2 * np.pi, 97)
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    icon(pen, rng, palette, np.stack([np.sin(t) ** 3 * 1.05, -y / 15.5], axis=1), 25)


def draw_star(pen: Pen, rng: Rng, palette: Palette) -> None:
    icon(pen, rng, palette, star(5, rng.uniform(0.4, 0.55)) * 1.1, 36)


def draw_arrow(pen: Pen, rng: Rng, palette: Palette) -> None:
    shaft, neck, head = rng.uniform(0.16, 0.3), rng.uniform(-0.15, 0.25), rng.uniform(0.6, 0.8)
    icon(pen, rng, palette, mirrored([(1.1, 0), (neck, head), (neck, shaft), (-1.1, shaft)]), 180)


def draw_moon(pen: Pen, rng: Rng, palette: Palette) -> None:
    horn, shift = rng.uniform(38, 62), rng.uniform(0.45, 0.75)
    tip = np.array([np.cos(np.radians(horn)), np.sin(np.radians(horn))])
    inner = np.hypot(tip[0] - shift, tip[1])
    turn = np.degrees(np.arctan2(tip[1], tip[0] - shift))
    crescent = np.concatenate([oval(0, 0, 1, None, horn, 360 - horn), oval(shift, 0, inner, None, 360 - turn, turn)])
    icon(pen, rng, palette, crescent, 60)


def draw_leaf(pen: Pen, rng: Rng, palette: Palette) -> None:
    width = rng.uniform(0.45, 0.7)
    leaf, colour, ground = icon(pen, rng, palette, petal(width, 2.0, 0.8) + (0, 0.8), 120)
    vein = mix(colour, ground, 0.55)
    leaf.line([(0, -1.0), (0, 0.8), (0, 1.25)], 0.05, vein, end=0.08)
    for y in np.linspace(-0.65, 0.4, int(rng.integers(3, 6))):
        reach = 0.72 * width * np.sin(np.pi * (0.48 - y / 2) ** 0.8)  # as far as the blade is wide there
        for x in (-reach, reach):
            leaf.line([(0, y + 0.12), (x, y - 0.16)], 0.045, vein)


def draw_house(pen: Pen, rng: Rng, palette: Palette) -> None:
    ground = plain_ground(pen, rng, palette)
    house, wall = icon_pen(pen, rng, 6), against(rng, palette, ground)
    roof = against(rng, palette, wall, ground, difference=25)
    peak, half = rng.uniform(0.85, 1.15), rng.uniform(0.7, 0.9)
    house.shadow([(-half, 1), (-half, -0.1), (0, -peak), (half, -0.1), (half, 1)])
    if rng.random() < 0.7:
        house.fill(box(half * 0.4, -peak, half * 0.68, -0.2), roof)
    house.fill([(-half, 1), (-half, -0.15), (0, -peak + 0.1), (half, -0.15), (half, 1)], wall)
    house.fill([(-half - 0.2, 0), (0, -peak), (half + 0.2, 0)], roof)
    opening = mix(ground, palette.paper, 0.3)
    door = pick(rng, (-0.3, 0, 0.3)) * half
    house.fill(box(door - 0.17, 0.42, door + 0.17, 1), opening)
    for x in [x for x in (-0.55, 0.0, 0.55) if abs(x * half - door) > 0.4]:
        house.fill(rounded(x * half - 0.15, 0.25, x * half + 0.15, 0.55, 0.03), opening)


def draw_umbrella(pen: Pen, rng: Rng, palette: Palette) -> None:
    ground = plain_ground(pen, rng, palette)
    umbrella, colour = icon_pen(pen, rng, 35), against(rng, palette, ground)
    other = mix(colour, ground, pick(rng, (0.0, 0.3, 0.55)))
    edges = np.linspace(-1.1, 1.1, int(rng.integers(4, 7)) + 1)
    dome = oval(0, 0, 1.1, 1.05, 180, 360)
    umbrella.shadow(dome)
    stick = np.concatenate([[(0, -1.2), (0, 0.8)], oval(0.2, 0.85, 0.2, None, 180, 20)])
    umbrella.line(stick, 0.1, mix(palette.ink, ground, 0.15))
    umbrella.fill(dome, colour)
    rib = oval(0, 0, 1, 1.05, 270, 360)
    for i, (left, right) in enumerate(pairwise(edges)):
        umbrella.fill(np.concatenate([rib * (left, 1), rib[::-1] * (right, 1)]), other if i % 2 else colour)
        umbrella.fill(oval((left + right) / 2, 0.02, (right - left) / 2, 0.14, 180, 360), ground)


def table_top(pen: Pen, rng: Rng, palette: Palette) -> tuple[float, Colour]:
    """A wall in soft light and a table before it; returns the height of the table's edge and the wall's colour."""
    wall = mix(palette.paper, pick(rng, palette.accents), rng.uniform(0.1, 0.5))
    wood, edge = mix(pick(rng, palette.land), palette.ink, rng.uniform(0, 0.25)), rng.uniform(0.58, 0.72)
    pen.shade(box(0, 0, 1, 1), lighter(wall, 0.25), mix(wall, palette.ink, 0.1))
    pen.glow(rng.uniform(0, 0.5), rng.uniform(0, 0.3), 0.7, WHITE, 0.4)
    pen.shade(box(0, edge, 1, 1.01), lighter(wood, 0.2), darker(wood, 0.2))
    return edge, wall


def draw_mug(pen: Pen, rng: Rng, palette: Palette) -> None:
    edge, wall = table_top(pen, rng, palette)
    colour, half = against(rng, palette, wall, difference=35), rng.uniform(0.62, 0.85)
    x, y, scale = rng.uniform((0.36, edge + 0.02, 0.19), (0.62, edge + 0.08, 0.29))
    mug = pen.at(x, y, scale, flip=rng.random() < 0.5)
    mug.shadow(oval(0, 0.55, half * 1.2, 0.2), shift=(0.25, 0.05), blur=0.1, alpha=0.5)
    if rng.random() < 0.5:
        mug.shade(oval(0, 0.52, half * 1.7, 0.26), lighter(palette.paper, 0.4), darker(palette.paper, 0.15))
        mug.fill(oval(0, 0.5, half * 1.15, 0.16), DARK, 0.15)
    mug.line(oval(half * 0.95, -0.3, 0.36, 0.4, -95, 95), 0.15, darker(colour, 0.2))
    body = np.concatenate([[(-half, -1), (half, -1)], oval(0, 0.4, half * 0.86, 0.18, 0, 180)])
    mug.model(body, colour, across=True)
    mug.fill(oval(0, -1, half, 0.17), lighter(colour, 0.4))
    mug.fill(oval(0, -0.97, half * 0.87, 0.12), (74, 44, 32))
    stripe = mix(colour, palette.paper, 0.75)
    if rng.random() < 0.6:
        low = rng.uniform(-0.5, 0.0)
        curve = oval(0, 0, half * 0.95, 0.17, 180, 0)
        mug.fill(np.concatenate([curve + (0, low), curve[::-1] + (0, low + 0.22)]), stripe)
    else:
        mug.at(0, -0.15, 0.3).fill(star(5, 0.5), stripe)
    for x in (-0.3, 0, 0.3)[: rng.integers(1, 4)]:
        up, sway = np.linspace(0, 1, 25), rng.uniform(0.06, 0.13)
        sideways = x + sway * np.sin(up * rng.uniform(6, 9) + rng.uniform(0, 6))
        mug.line(np.stack([sideways, -1.12 - rng.uniform(0.7, 1.1) * up], 1), 0.13, WHITE, 0.5, end=0.02)


def draw_mushroom(pen: Pen, rng: Rng, palette: Palette) -> None:
    palette, _ = time_of_day(rng, palette, 0.2)
    pen.shade(box(0, 0, 1, 1), *(mix(c, palette.paper, 0.3) for c in palette.sky))
    pen.fill(hill(rng, rng.uniform(0.6, 0.7), 0.05), palette.land[0])
    near = rng.uniform(0.78, 0.88)
    pen.shade(hill(rng, near, 0.03), palette.land[1], darker(palette.land[1], 0.3))
    cap, num_mushrooms = pick(rng, palette.accents), int(rng.integers(1, 4))
    places = ((0.5,), (0.3, 0.66), (0.22, 0.78, 0.5))[num_mushrooms - 1]
    for x, scale in zip(places, np.sort(rng.uniform(0.14, 0.3, num_mushrooms)), strict=True):
        mushroom(pen.at(x + rng.normal(0, 0.03), near + 0.03, scale, rng.uniform(-8, 8)), rng, cap, palette.paper)
    grass, foot = darker(palette.land[1], 0.15), near + 0.06
    for x in rng.uniform(0, 1, 14):
        for lean in (-0.02, 0, 0.02):
            pen.line([(x, foot), (x + lean, foot - rng.uniform(0.03, 0.08))], 0.009, grass, end=0.001)


def mushroom(pen: Pen, rng: Rng, cap: Colour, pale: Colour) -> None:
    """A mushroom about two units high that stands on (0, 0)."""
    wide, tall = rng.uniform(0.85, 1.15), rng.uniform(0.9, 1.3)
    pen.shadow(oval(0, 0, 0.6, 0.12), shift=(0.2, 0.02))
    stem = smooth([(0.22, -tall), (0.2, -0.5), (0.34, 0), (0, 0.08)])
    pen.model(mirrored(stem, across=True), pale, across=True)
    pen.fill(oval(0, -tall, wide * 0.95, 0.2), darker(pale, 0.28))
    dome = np.concatenate([oval(0, -tall, wide, 0.95, 180, 360), oval(0, -tall, wide, 0.14, 0, 180)])
    pen.model(dome, cap)
    spots = [(-0.5, -0.32, 0.13), (0.05, -0.55, 0.18), (0.5, -0.25, 0.12), (-0.12, -0.12, 0.1), (-0.25, -0.72, 0.08)]
    for x, y, r in spots:
        pen.fill(oval(x * wide + rng.normal(0, 0.02), y - tall + 0.06, r, r * 0.8), lighter(pale, 0.5))


def draw_fish(pen: Pen, rng: Rng, palette: Palette) -> None:
    water = sea(pen, rng, palette)
    body = pick(rng, (*palette.accents[:2], palette.accents[4], palette.paper))  # warm on cool
    fins = pick(rng, [c for c in palette.accents if c not in (body, water)])
    fish = pen.at(*rng.uniform(0.44, 0.56, 2), rng.uniform(0.24, 0.36), rng.uniform(-20, 20), flip=rng.random() < 0.5)
    fish.shadow(oval(0, 0, 1, 0.5), shift=(0.08, 0.2), blur=0.12, alpha=0.25)
    fish_shape(fish, rng, body, fins, detail=True)
    bubbles(pen, rng, int(rng.integers(4, 12)))


def draw_cactus(pen: Pen, rng: Rng, palette: Palette) -> None:
    edge, wall = table_top(pen, rng, palette)
    green = mix(pick(rng, palette.land), (46, 120, 84), 0.6)
    pot_colour = against(rng, palette, wall, difference=30)
    cactus = pen.at(rng.uniform(0.38, 0.62), edge + rng.uniform(0.0, 0.06), rng.uniform(0.2, 0.29))
    cactus.shadow(oval(0, 0.75, 0.8, 0.15), shift=(0.3, 0.03), blur=0.1, alpha=0.5)
    tall = rng.uniform(1.2, 1.9)
    for side in (-1, 1) if rng.random() < 0.6 else (pick(rng, (-1, 1)),):
        low, reach, up = -rng.uniform(0.25, 0.6), rng.uniform(0.65, 0.85), rng.uniform(0.4, 0.8)
        arm = [(0, low), (side * reach * 0.7, low), (side * reach, low - 0.25), (side * reach, low - up)]
        cactus.line(smooth(arm), 0.34, darker(green, 0.12))
    cactus.model(rounded(-0.36, -tall, 0.36, 0.3, 0.35), green, across=True)
    for x in (-0.18, 0, 0.18):
        cactus.line([(x, -tall + 0.2), (x, 0.1)], 0.03, darker(green, 0.35))
        for y in np.arange(-tall + 0.25, -0.1, 0.17):
            cactus.line([(x - 0.06, y - 0.05), (x, y), (x + 0.06, y - 0.05)], 0.02, lighter(green, 0.7))
    if rng.random() < 0.6:
        blossom = pick(rng, palette.accents[:2])
        for angle in range(0, 360, 72):
            cactus.at(0, -tall, 0.24, angle).fill(petal(0.3, 1.0, 1.3), lighter(blossom, 0.2))
        cactus.dot(0, -tall, 0.07, lighter(blossom, 0.7))
    cactus.model([(-0.55, 0.05), (0.55, 0.05), (0.42, 0.85), (-0.42, 0.85)], pot_colour, across=True)
    cactus.fill(rounded(-0.65, -0.06, 0.65, 0.2, 0.06), lighter(pot_colour, 0.18))


def draw_flower(pen: Pen, rng: Rng, palette: Palette) -> None:
    ground = mix(pick(rng, palette.accents), palette.paper, rng.uniform(0.55, 0.9))
    pen.shade(box(0, 0, 1, 1), lighter(ground, 0.35), mix(ground, palette.ink, 0.12))
    colour = against(rng, palette, ground, difference=40)
    green = darker(palette.land[1], 0.1)
    x, y, sway = rng.uniform(0.4, 0.6), rng.uniform(0.32, 0.42), rng.uniform(-0.1, 0.1)
    pen.line(smooth([(x, y), (x + sway, 0.7), (x, 1.05)]), 0.022, green, end=0.03)
    for side in (-1, 1):
        leaf = pen.at(x + sway * 0.8, rng.uniform(0.68, 0.85), rng.uniform(0.2, 0.3), side * rng.uniform(40, 65))
        leaf.fill(petal(0.22, 1.0, 0.8), green)
        leaf.line([(0, 0), (0, -0.9)], 0.025, lighter(green, 0.3))
    head = pen.at(x, y, rng.uniform(0.2, 0.29), rng.uniform(0, 60))
    head.shadow(oval(0, 0, 0.9), blur=0.15, alpha=0.3)
    num_petals, width = int(rng.integers(6, 13)), rng.uniform(0.9, 1.3)
    for ring, size in enumerate((1.0, 0.72)):
        for i in range(num_petals):
            blade = head.at(0, 0, size, (i + ring / 2) * 360 / num_petals)
            light = (0.12 + 0.06 * (i % 2)) * (1 if ring else -1)
            blade.fill(petal(width * 2.4 / num_petals, 1.0, 1.5), toned(colour, light))
            blade.line([(0, -0.2), (0, -0.7)], 0.02, darker(colour, 0.35), 0.5, end=0.005)
    heart = mix(pick(rng, palette.accents[:2]), palette.ink, 0.25)
    head.dot(0, 0, 0.27, heart)
    for angle in np.arange(24) * 2.4:
        radius = 0.045 * np.sqrt(angle)
        head.dot(radius * np.cos(angle), radius * np.sin(angle), 0.025, lighter(heart, 0.55))


def draw_sailing_boat(pen: Pen, rng: Rng, palette: Palette) -> None:
    palette, dark = time_of_day(rng, palette)
    heaven(pen, rng, palette, dark, num_clouds=int(rng.integers(1, 4)))
    level = rng.uniform(0.6, 0.7)
    if rng.random() < 0.5:
        pen.fill(hill(rng, level - 0.03, 0.05), mix(palette.land[0], palette.sky[1], 0.5))
    sails = [mix(c, palette.paper, share) for c, share in zip(shuffled(rng, palette.accents), (0.0, 0.6), strict=False)]
    boat = pen.at(rng.uniform(0.35, 0.65), level, rng.uniform(0.14, 0.23), rng.uniform(-5, 5), flip=rng.random() < 0.5)
    boat_shape(boat, rng, pick(rng, palette.accents), sails, sailing=True)
    pen.reflect(level, mix(palette.sky[0], palette.night[1], 0.35), 0.5, 0.02)
    waves(pen, rng, level, lighter(palette.sky[1], 0.3), 40)
    if not dark:
        tiny_birds(pen, rng, palette.ink)


def draw_lighthouse(pen: Pen, rng: Rng, palette: Palette) -> None:
    palette, dark = time_of_day(rng, palette, 0.45)
    heaven(pen, rng, palette, dark, num_clouds=int(rng.integers(1, 4)))
    level = rng.uniform(0.68, 0.78)
    far, near = mix(palette.sky[0], palette.night[1], 0.3), mix(palette.sky[0], palette.night[0], 0.6)
    pen.shade(box(0, level, 1, 1.01), far, near)
    waves(pen, rng, level, lighter(palette.sky[1], 0.3), 40)
    cliff = pen.at(rng.uniform(0.3, 0.7), level, flip=rng.random() < 0.5)
    edge = [(-0.75, 0.4), (-0.5, 0.03), (-0.18, -0.06), (0, -0.09), (0.15, -0.05), (0.28, 0.08), (0.36, 0.4)]
    cliff.model(smooth(edge), mix(palette.land[1], palette.ink, 0.45))
    tower, stripe = cliff.at(0, -0.06, rng.uniform(0.15, 0.19)), pick(rng, palette.accents)
    for turn, reach in ((rng.uniform(-12, 12), 6), (180 + rng.uniform(-12, 12), 6)) if dark else ():
        tower.at(0, -2.4, reach, turn).fill([(0, 0), (1, -0.12), (1, 0.12)], LAMP, 0.3)
    joints = np.stack([np.linspace(0.45, 0.27, 6), np.linspace(0, -2.1, 6)], axis=1)
    for i, (bottom, top) in enumerate(pairwise(joints)):
        colour = lighter(palette.paper, 0.3) if i % 2 else stripe
        tower.model(mirrored([bottom, top], across=True), colour, across=True)
    tower.fill(box(-0.36, -2.2, 0.36, -2.08), palette.ink)
    tower.fill(box(-0.2, -2.58, 0.2, -2.2), LAMP)
    tower.glow(0, -2.4, 1.3 if dark else 0.4, LAMP, 0.9)
    tower.line([(0, -2.2), (0, -2.58)], 0.03, palette.ink)
    tower.fill(oval(0, -2.56, 0.27, 0.3, 180, 360), darker(stripe, 0.25))
    for y in (-0.6, -1.45):
        tower.fill(rounded(-0.07, y - 0.12, 0.07, y + 0.1, 0.05), palette.ink)
    tower.fill(rounded(-0.12, -0.35, 0.12, 0.1, 0.1), palette.ink)


def draw_tree(pen: Pen, rng: Rng, palette: Palette) -> None:
    palette, dark = time_of_day(rng, palette, 0.2)
    heaven(pen, rng, palette, dark, num_clouds=int(rng.integers(1, 5)))
    if not dark:
        tiny_birds(pen, rng, palette.ink)
    pen.fill(hill(rng, 0.7, 0.06), mix(palette.land[0], palette.sky[1], 0.45))
    x, top = rng.uniform(0.3, 0.7), rng.uniform(0.68, 0.76)
    slope = [(-1, 0.25), (-0.6, 0.15), (-0.25, 0.05), (0, 0), (0.25, 0.05), (0.6, 0.15), (1, 0.25)]
    ground = np.concatenate([smooth(slope), [(1, 0.5), (-1, 0.5)]])
    pen.at(x, top).shade(ground, lighter(palette.land[0], 0.1), palette.land[1])
    scale = rng.uniform(0.5, 0.7)
    pen.at(x, top + 0.02, scale).shadow(oval(0.15, 0.02, 0.35, 0.03), blur=0.02, alpha=0.4, shift=(0, 0))
    leaves = mix(pick(rng, (*palette.land, *palette.accents[:3])), palette.land[1], 0.3)
    leafy_tree(pen.at(x, top + 0.02, scale), rng, leaves, 40, 0.085)
    for _ in range(60):
        gx, gy = rng.uniform((0, top + 0.12), (1, 1))
        pen.line([(gx, gy), (gx + rng.normal(0, 0.006), gy - 0.02)], 0.005, darker(palette.land[1], 0.25), end=0.001)


def draw_balloons(pen: Pen, rng: Rng, palette: Palette) -> None:
    palette, dark = time_of_day(rng, palette, 0.15)
    heaven(pen, rng, palette, dark, num_clouds=int(rng.integers(2, 6)), low=0.6)
    for depth in (0.0, 0.5, 1.0):
        pen.fill(hill(rng, 0.8 + 0.08 * depth, 0.05), mix(mix(*palette.land, depth), palette.sky[1], 0.5 * (1 - depth)))
    num_balloons = int(rng.integers(3, 7))
    columns = shuffled(rng, (np.arange(num_balloons) + 0.5) / num_balloons)
    for x, scale in zip(columns, np.sort(rng.uniform(0.04, 0.16, num_balloons)), strict=True):
        balloon = pen.at(x + rng.normal(0, 0.02), rng.uniform(0.15, 0.6), scale, rng.uniform(-4, 4))
        balloon_shape(balloon, rng, [*shuffled(rng, palette.accents)[: rng.integers(2, 4)], palette.paper])


def draw_mountains(pen: Pen, rng: Rng, palette: Palette) -> None:
    palette, dark = time_of_day(rng, palette)
    heaven(pen, rng, palette, dark, num_clouds=2, low=0.25)
    rock = mix(pick(rng, palette.accents), palette.night[1], 0.65)
    snow = lighter(palette.paper, 0.5)
    for depth in (0.0, 0.5, 1.0):
        for x in rng.permutation(np.linspace(0.05, 0.95, 4)):
            place = pen.at(x + rng.normal(0, 0.06), 0.87, rng.uniform(0.33, 0.55) * (1.15 - 0.35 * depth))
            peak(place, rng, mix(rock, palette.sky[1], 0.55 * (1 - depth)), snow)
    forest = mix(palette.land[1], palette.night[0], 0.4)
    level = rng.uniform(0.78, 0.84)
    pen.fill(hill(rng, level, 0.02), forest)
    if rng.random() < 0.5:
        for x in np.linspace(0, 1, 40) + rng.normal(0, 0.01, 40):
            pine(pen.at(x, level + 0.02, rng.uniform(0.05, 0.11)), darker(forest, rng.uniform(0, 0.25)), 3)
        pen.reflect(level + 0.015, mix(palette.sky[0], palette.night[1], 0.3), 0.7, 0.008)
    else:
        for x in np.sort(rng.uniform(0, 1, 34)):
            pine(pen.at(x, rng.uniform(0.9, 1.02), rng.uniform(0.1, 0.24)), darker(forest, rng.uniform(0, 0.3)))


def peak(pen: Pen, rng: Rng, rock: Colour, snow: Colour) -> None:
    """A mountain one unit high on the line y = 0, lit from the left."""
    left, right = np.sort(rng.uniform(0.7, 1.1, 2))
    down = np.linspace(0, 1, 9)
    lit, shaded, ridge = (
        [(foot * t + rng.normal(0, 0.02) * (0 < t < 1), t - 1) for t in down]
        for foot in (-left, right, rng.uniform(-0.1, 0.3))
    )
    pen.fill(np.array(lit + ridge[::-1]), lighter(rock, 0.18))
    pen.fill(np.array(shaded + ridge[::-1]), darker(rock, 0.12))
    line = rng.uniform(-0.72, -0.6)
    for edge, colour in ((lit, snow), (shaded, mix(snow, rock, 0.3))):
        cap = [p for p in edge if p[1] < line] + [p for p in ridge[::-1] if p[1] < line]
        cut = sum(p[1] < line for p in edge)
        teeth = np.linspace(edge[cut][0] * 0.85, ridge[cut][0], 6)[1:-1]
        cap[cut:cut] = [(x, line + (0.1 if i % 2 == 0 else -0.05) * rng.uniform(0.6, 1.2)) for i, x in enumerate(teeth)]
        pen.fill(np.array(cap), colour)


def draw_constellations(pen: Pen, rng: Rng, palette: Palette) -> None:
    pen.shade(box(0, 0, 1, 1), *palette.night)
    x, slope = rng.uniform(0.2, 0.8), rng.uniform(-0.6, 0.6)
    for t in np.linspace(-0.1, 1.1, 16):
        tint = mix(pick(rng, palette.accents), palette.night[1], 0.5)
        pen.glow(x + slope * (t - 0.5) + rng.normal(0, 0.04), t, rng.uniform(0.12, 0.25), tint, 0.28)
    for _ in range(330):
        t = rng.uniform(-0.1, 1.1)
        spread = x + slope * (t - 0.5) + rng.normal(0, 0.1) if rng.random() < 0.5 else rng.random()
        tint = mix(WHITE, pick(rng, palette.accents), 0.3)
        pen.dot(spread, t, 0.0012 + 0.003 * rng.random() ** 4, tint, rng.uniform(0.5, 1))
    light = lighter(pick(rng, palette.accents[:2]), 0.7)
    cells = shuffled(rng, [(0.25, 0.2), (0.72, 0.22), (0.27, 0.58), (0.74, 0.58)])
    for cx, cy in cells[: rng.integers(2, 5)]:
        angles = np.sort(rng.uniform(0, 360, int(rng.integers(5, 8))))
        radii = rng.uniform(0.06, 0.19, len(angles))
        stars = np.stack([cx + radii * np.cos(np.radians(angles)), cy + radii * np.sin(np.radians(angles))], 1)
        for a, b in pairwise(stars):
            pen.line([a, b], 0.004, light, 0.55)
        for sx, sy in stars:
            pen.glow(sx, sy, 0.035, light, 0.8)
            pen.at(sx, sy, rng.uniform(0.012, 0.022)).fill(star(4, 0.3), WHITE)
    for depth in (0.0, 1.0):
        land = mix(palette.night[1], palette.night[0], 0.5 + 0.5 * depth)
        pen.fill(hill(rng, 0.86 + 0.07 * depth, 0.06), darker(land, 0.4 * depth))


def draw_aquarium(pen: Pen, rng: Rng, palette: Palette) -> None:
    water = sea(pen, rng, palette)
    for x in rng.uniform(-0.1, 1, 5):
        width = rng.uniform(0.04, 0.12)
        pen.fill([(x, 0), (x + width, 0), (x + width * 2.5 - 0.2, 1), (x - 0.2, 1)], WHITE, 0.09)
    sand = mix(palette.paper, palette.land[0], 0.5)
    pen.shade(hill(rng, 0.88, 0.04), sand, darker(sand, 0.3))
    for x, y, radius in rng.uniform((0, 0.92, 0.005), (1, 1, 0.016), (60, 3)):
        pen.dot(x, y, radius, toned(sand, rng.uniform(-0.4, 0.5)))
    for x in rng.uniform(0, 1, 9):
        weed(pen.at(x, 0.93, rng.uniform(0.2, 0.5)), rng, mix(palette.land[1], water, rng.uniform(0, 0.4)))
    for x in rng.uniform(0, 1, 5):
        coral(pen.at(x, 0.94, rng.uniform(0.07, 0.13)), rng, lighter(pick(rng, palette.accents), 0.1), 5)
    for _ in range(int(rng.integers(5, 8))):
        body, fins = shuffled(rng, [*palette.accents, palette.paper])[:2]
        x, y, scale, flip = *rng.uniform((0.12, 0.1), (0.88, 0.75)), rng.uniform(0.025, 0.12), rng.random() < 0.5
        for dx, dy in rng.normal(0, (0.09, 0.05), (int(rng.integers(4, 9)), 2)) if scale < 0.06 else ((0, 0),):
            fish_shape(pen.at(x + dx, y + dy, scale, rng.uniform(-10, 10), flip), rng, body, fins, detail=scale > 0.06)
    bubbles(pen, rng, 30)


def weed(pen: Pen, rng: Rng, colour: Colour) -> None:
    for x in (-0.09, 0, 0.1):
        up, sway, tall = np.linspace(0, 1, 25), rng.uniform(0.05, 0.13), rng.uniform(0.6, 1)
        leaf = np.stack([x + sway * up * np.sin(up * 11 + rng.uniform(0, 6)), -tall * up], axis=1)
        pen.line(leaf, 0.07, lighter(colour, rng.uniform(0, 0.25)), end=0.015)


def coral(pen: Pen, rng: Rng, colour: Colour, num_levels: int) -> None:
    tip = rng.uniform(0.6, 0.8)
    pen.line([(0, 0), (0, -tip)], 0.22, colour)
    if num_levels > 1:
        for turn in (-1, 1):
            branch = pen.at(0, -tip, rng.uniform(0.68, 0.82), turn * rng.uniform(18, 38))
            coral(branch, rng, lighter(colour, 0.06), num_levels - 1)


def draw_harbour(pen: Pen, rng: Rng, palette: Palette) -> None:
    palette, dark = time_of_day(rng, palette, 0.3)
    heaven(pen, rng, palette, dark, num_clouds=2, low=0.2)
    level, x = rng.uniform(0.46, 0.54), -0.03
    pen.fill(hill(rng, level - 0.16, 0.08), mix(palette.land[1], palette.sky[1], 0.45))
    while x < 1:
        wall = lighter(pick(rng, (*palette.accents, palette.paper)), 0.2 * (not dark))
        roof = mix(pick(rng, palette.accents), palette.ink, 0.5)
        x += gabled_house(pen.at(x, level - 0.015), rng, rng.uniform(0.06, 0.11), wall, roof, dark)
    pen.fill(box(0, level - 0.018, 1, level), mix(palette.paper, palette.ink, 0.5))
    pen.reflect(level, mix(palette.sky[0], palette.night[1], 0.35), 0.5, 0.012)
    waves(pen, rng, level, lighter(palette.sky[1], 0.3), 50)
    for depth in (0.12, 0.4, 0.8):
        num_boats = int(rng.integers(4, 8)) - round(3 * depth)
        for i in range(num_boats):
            x, y = (i + rng.uniform(0.2, 0.8)) / num_boats, level + (1 - level) * depth + rng.uniform(0, 0.05)
            boat = pen.at(x, y, (0.045 + 0.07 * depth) * rng.uniform(0.8, 1.2), flip=rng.random() < 0.5)
            hull, *sails = (mix(c, palette.paper, 0.1) for c in shuffled(rng, palette.accents)[:3])
            boat.fill(oval(0, 0.1, 1.0, 0.22), mix(hull, palette.night[0], 0.5), 0.55)
            boat_shape(boat, rng, hull, sails, sailing=rng.random() < 0.2)


def gabled_house(pen: Pen, rng: Rng, width: float, wall: Colour, roof: Colour, dark: bool) -> float:
    """A house whose left foot is (0, 0); returns its width."""
    height = rng.uniform(0.1, 0.23)
    pen.fill(box(0, -height, width, 0), wall)
    top = -height - width * rng.uniform(0.4, 0.8)
    pen.fill([(-0.006, -height), (width / 2, top), (width + 0.006, -height)], roof)
    pen.fill(box(width * 0.85, -height, width, 0), DARK, 0.12)
    for y in np.arange(-height + 0.015, -0.03, 0.034):
        for x in np.arange(0.012, width - 0.02, 0.024):
            lit = dark and rng.random() < 0.5
            pen.fill(box(x, y, x + 0.013, y + 0.02), LAMP if lit else darker(wall, 0.55))
    return width


def draw_traffic(pen: Pen, rng: Rng, palette: Palette) -> None:
    verge = mix(pick(rng, palette.land), palette.paper, 0.2)
    pen.fill(box(0, 0, 1, 1), verge)
    road = pen.at(0.5, 0.5, 1, rng.uniform(0, 180))
    num_lanes = int(rng.integers(4, 7))
    lane = rng.uniform(0.115, 0.15)
    half = num_lanes * lane / 2
    tarmac = mix(mix(palette.ink, palette.paper, 0.35), (110, 110, 118), 0.4)
    road.fill(box(-1, -half - 0.05, 1, half + 0.05), mix(palette.paper, palette.ink, 0.12))
    road.fill(box(-1, -half - 0.015, 1, half + 0.015), tarmac)
    for i in range(1, num_lanes):
        middle = i == num_lanes // 2
        for x in (-1,) if middle else np.arange(-1, 1, 0.09):
            dash = road.at(x, -half + i * lane)
            dash.fill(box(0, -0.004, 2 if middle else 0.045, 0.004), palette.paper, 0.9)
    for i in range(num_lanes):
        x = -0.85 + rng.uniform(0, 0.1)
        while x < 0.85:
            long = pick(rng, (0.17, 0.18, 0.19, 0.2, 0.34))
            y = -half + (i + 0.5) * lane + rng.normal(0, 0.005)
            place = road.at(x + long / 2, y, lane, rng.normal(0, 1.5), flip=i < num_lanes / 2)
            vehicle(place, rng, long / lane / 2, pick(rng, (*palette.accents, palette.paper, palette.ink)), palette)
            x += long + rng.uniform(0.02, 0.07)
    for side in (-1, 1):
        for x in np.arange(-0.8, 0.85, 0.12):
            y = side * (half + rng.uniform(0.11, 0.3))
            leaves = mix(palette.land[1], pick(rng, palette.accents), rng.uniform(0, 0.35))
            tree_from_above(road.at(x + rng.normal(0, 0.02), y, rng.uniform(0.05, 0.08), rng.uniform(0, 60)), leaves)


def tree_from_above(pen: Pen, leaves: Colour) -> None:
    pen.shadow(oval(0, 0, 1), shift=(0.3, 0.3), blur=0.15, alpha=0.35)
    for radius, light in ((1, -0.15), (0.75, 0.0), (0.5, 0.15)):
        for x, y in oval(0, 0, 0.65 * radius)[:-1:8]:
            pen.dot(x, y, radius * 0.42, toned(leaves, light))
        pen.dot(0, 0, radius * 0.6, toned(leaves, light))


def vehicle(pen: Pen, rng: Rng, half: float, paint: Colour, palette: Palette) -> None:
    """A car, or a bus where it is long, seen from above in a lane of width 1; it drives to the right."""
    wide, glass = 0.34, mix(palette.night[0], palette.sky[0], 0.35)
    body = rounded(-half, -wide, half, wide, 0.14)
    pen.shadow(body, blur=0.07, alpha=0.5, shift=(0.07, 0.09))
    pen.fill(body, paint)
    pen.fill(rounded(-half + 0.04, -wide + 0.05, half - 0.04, -wide + 0.13, 0.03), lighter(paint, 0.35))
    if half > 1.0:
        pen.fill(box(half - 0.2, -0.28, half - 0.06, 0.28), glass)
        for x in np.linspace(-half + 0.25, half - 0.55, 4):
            pen.fill(rounded(x, -0.18, x + 0.25, 0.18, 0.04), darker(paint, 0.15))
    else:
        pen.fill([(0.42, -0.28), (0.15, -0.23), (0.15, 0.23), (0.42, 0.28)], glass)
        pen.fill([(-0.5, -0.25), (-0.33, -0.21), (-0.33, 0.21), (-0.5, 0.25)], glass)
        for side in (-1, 1):
            pen.fill([(0.33, side * 0.31), (-0.42, side * 0.31), (-0.3, side * 0.25), (0.14, side * 0.25)], glass)
        if rng.random() < 0.15:
            pen.fill(box(-0.15, -0.2, -0.02, 0.2), palette.accents[1])
    for y in (-0.22, 0.22):
        pen.dot(half - 0.05, y, 0.065, lighter(LAMP, 0.4))
        pen.dot(-half + 0.04, y, 0.055, (214, 52, 52))


def draw_parasols(pen: Pen, rng: Rng, palette: Palette) -> None:
    ground = mix(palette.paper, pick(rng, palette.land), 0.4)
    pen.fill(box(0, 0, 1, 1), ground)
    paving = pen.at(0.5, 0.5, 1, rng.uniform(0, 90))
    for t in np.arange(-0.8, 0.8, 0.06):
        paving.line([(-0.8, t), (0.8, t)], 0.003, mix(ground, palette.ink, 0.2))
        paving.line([(t, -0.8), (t, 0.8)], 0.003, mix(ground, palette.ink, 0.2))
    step = rng.uniform(0.115, 0.16)
    grid = np.stack(np.meshgrid(np.arange(0, 1.1, step), np.arange(0, 1.1, step)), -1).reshape(-1, 2)
    for x, y in rng.permutation(grid):
        x, y = (x, y) + rng.normal(0, step * 0.25, 2)
        parasol(pen.at(x, y, step * rng.uniform(0.5, 0.72), rng.uniform(0, 45)), rng, palette)


def parasol(pen: Pen, rng: Rng, palette: Palette) -> None:
    """An open umbrella of radius 1 from above."""
    num_gores, base = 8, pick(rng, (*palette.accents, palette.ink, palette.paper))
    other = pick(rng, (base, lighter(base, 0.6), pick(rng, palette.accents)))
    rim = oval(0, 0, 1)[:-1:6]
    pen.shadow(rim, blur=0.14, alpha=0.5, shift=(0.2, 0.26))
    angles = np.arange(num_gores) * 2 * np.pi / num_gores
    for i, angle in enumerate(angles):
        a, m, b = ((np.cos(angle + t), np.sin(angle + t)) for t in (0, np.pi / 8, np.pi / 4))
        toward_light = -(m[0] + m[1] * 1.3) / 1.64
        colour = toned(other if i % 2 else base, 0.22 * toward_light)
        pen.fill([(0, 0), a, (m[0] * 0.88, m[1] * 0.88), b], colour)
        pen.line([(0, 0), a], 0.025, darker(base, 0.4))
    if rng.random() < 0.3:
        pen.line(oval(0, 0, 0.55), 0.07, lighter(base, 0.7))
    pen.dot(0, 0, 0.08, darker(base, 0.5))


def draw_skyline(pen: Pen, rng: Rng, palette: Palette) -> None:
    palette = palette.after_dark()
    heaven(pen, rng, palette, True, num_clouds=0, low=0.25)
    level = rng.uniform(0.78, 0.88)
    for depth in (0.0, 0.5, 1.0):
        x, haze = rng.uniform(-0.08, 0), mix(palette.sky[1], palette.accents[3], 0.3)
        wall = mix(haze, palette.night[0], 0.1 + 0.8 * depth)
        light = mix(mix(pick(rng, palette.accents[:2]), LAMP, 0.6), wall, 0.55 * (1 - depth))
        while x < 1:
            width = rng.uniform(0.06, 0.13)
            tall = rng.uniform(0.1, 0.3) + 0.34 * (1 - depth) * rng.uniform(0.5, 1) + 0.2 * (rng.random() < 0.15)
            tower(pen.at(x, level), rng, width, tall, mix(wall, pick(rng, palette.accents), 0.1), light)
            x += width + rng.uniform(-0.01, 0.02)
    pen.reflect(level, palette.night[0], 0.55, 0.008)


def tower(pen: Pen, rng: Rng, width: float, tall: float, wall: Colour, light: Colour) -> None:
    """A building whose left foot is (0, 0), with a window of every few lit."""
    roof = rng.integers(5)
    if roof == 0:
        pen.line([(width / 2, -tall), (width / 2, -tall - 0.09)], 0.005, wall)
        pen.dot(width / 2, -tall - 0.09, 0.005, (255, 90, 80))
    elif roof == 1:
        pen.fill([(0, -tall), (width / 2, -tall - 0.07), (width, -tall)], wall)
    elif roof == 2:
        pen.fill(box(width * 0.2, -tall - 0.035, width * 0.8, -tall), wall)
    pen.shade(box(0, -tall, width, 0), lighter(wall, 0.1), wall)
    columns, share = np.arange(0.008, width - 0.012, pick(rng, (0.014, 0.017, 0.021))), rng.uniform(0.3, 0.7)
    for y in np.arange(-tall + 0.012, -0.012, pick(rng, (0.02, 0.024))):
        for x in columns[rng.random(len(columns)) < share]:
            pen.fill(box(x, y, x + 0.009, y + 0.011), mix(light, wall, rng.uniform(0, 0.5)))


def draw_bookshelf(pen: Pen, rng: Rng, palette: Palette) -> None:
    palette, _ = time_of_day(rng, palette, 0.15)
    wood = mix(pick(rng, (*palette.land, palette.paper)), (120, 78, 50), rng.uniform(0.2, 0.6))
    pen.fill(box(0, 0, 1, 1), darker(wood, 0.55))
    num_shelves = int(rng.integers(3, 6))
    tall = 1 / num_shelves
    for i in range(num_shelves):
        shelf = pen.at(0, (i + 1) * tall - rng.uniform(0, 0.02))
        shelf.shade(box(0, -tall, 1, 0), darker(wood, 0.75), darker(wood, 0.45))
        x = rng.uniform(0.0, 0.03)
        while x < 0.98:
            x += shelf_item(shelf.at(x, 0), rng, tall, palette)
        shelf.fill(box(0, 0, 1, 0.022), lighter(wood, 0.12))
        shelf.fill(box(0, 0.022, 1, 0.04), DARK, 0.35)


def shelf_item(pen: Pen, rng: Rng, tall: float, palette: Palette) -> float:
    """Puts a book, or now and then a pile or a pot, at (0, 0) on its shelf and returns how much room it takes."""
    colour, kind = mix(pick(rng, (*palette.accents, palette.paper)), palette.ink, rng.uniform(0, 0.3)), rng.random()
    if kind < 0.04:
        pot = pen.at(0.06, -0.045, 0.05)
        for angle in np.linspace(-70, 70, 7):
            pot.at(0, -0.6, tall * 7, angle).fill(petal(0.16), lighter(palette.land[1], rng.uniform(0, 0.25)))
        pot.model([(-0.75, -0.7), (0.75, -0.7), (0.5, 0.9), (-0.5, 0.9)], colour, across=True)
        return 0.12
    if kind < 0.08:
        for level in range(int(rng.integers(3, 6))):
            inset, cover = rng.uniform(0, 0.015), mix(pick(rng, palette.accents), palette.ink, 0.15)
            pen.fill(box(inset, -0.025 * (level + 1), 0.15 - inset, -0.025 * level - 0.002), cover)
            pen.fill(box(0.03, -0.025 * level - 0.017, 0.09, -0.025 * level - 0.011), lighter(cover, 0.6))
        return 0.16
    width, height = rng.uniform(0.022, 0.05), tall * rng.uniform(0.6, 0.86)
    book = pen.at(0, 0, 1, -rng.uniform(5, 9)) if kind < 0.14 else pen
    book.model(box(0, -height, width, 0), colour, across=True)
    title = mix(colour, palette.paper if lightness(colour) < 150 else palette.ink, 0.75)
    for y in (0.08, 0.88):
        book.fill(box(0, -height * (1 - y), width, -height * (1 - y) + 0.006), title)
    low, long = rng.uniform(0.25, 0.45), rng.uniform(0.2, 0.4)
    book.fill(box(width * 0.36, -height * (low + long), width * 0.64, -height * low), title)
    return width + (height * 0.13 if kind < 0.14 else rng.uniform(0.001, 0.004))


def draw_market(pen: Pen, rng: Rng, palette: Palette) -> None:
    palette, dark = time_of_day(rng, palette, 0.25)
    pen.shade(box(0, 0, 1, 1), *palette.sky)
    x = -0.02
    while x < 1:
        wall = mix(pick(rng, palette.accents), palette.sky[1], 0.45)
        x += gabled_house(pen.at(x, 0.36), rng, rng.uniform(0.09, 0.14), wall, mix(wall, palette.ink, 0.5), dark)
    paving = mix(palette.paper, palette.ink, 0.55 if dark else 0.35)
    pen.shade(box(0, 0.34, 1, 1.01), darker(paving, 0.1), lighter(paving, 0.15))
    for y, scale in ((0.48, 0.115), (0.7, 0.16), (0.98, 0.23)):
        x = rng.uniform(-scale, 0)
        while x < 1 + scale:
            market_stall(pen.at(x, y, scale), rng, palette)
            x += scale * rng.uniform(2.15, 2.4)
        for _ in range(4):
            shopper(pen.at(rng.random(), y + 0.05 * scale + 0.03, scale * rng.uniform(0.8, 0.95)), rng, palette)
    for y in (0.05, 0.1):
        line = smooth([(-0.05, y), (0.25, y + 0.07), (0.5, y), (0.75, y + 0.07), (1.05, y)], 6)
        pen.line(line, 0.003, palette.ink)
        for fx, fy in line[::2]:
            if dark:
                pen.glow(fx, fy + 0.01, 0.03, LAMP, 0.9)
                pen.dot(fx, fy + 0.01, 0.007, lighter(LAMP, 0.4))
            else:
                pen.at(fx, fy, 0.018).fill([(-0.8, 0), (0.8, 0), (0, 1.6)], pick(rng, palette.accents))


def market_stall(pen: Pen, rng: Rng, palette: Palette) -> None:
    """A stall two units wide whose front stands on y = 0."""
    first = pick(rng, palette.accents)
    cloth = (first, lighter(palette.paper, 0.4))
    pen.fill(box(-0.95, -1.5, 0.95, -0.4), mix(palette.ink, first, 0.2))
    for x in (-0.9, 0.9):
        pen.line([(x, -1.4), (x, 0)], 0.06, mix(palette.ink, (130, 90, 60), 0.5))
    shopper(pen.at(rng.uniform(-0.4, 0.4), -0.1, 0.95), rng, palette)
    pen.shade(box(-0.98, -0.5, 0.98, 0), mix(first, palette.paper, 0.25), darker(first, 0.35))
    for x in (-0.93, -0.3, 0.33):
        fruit = lighter(pick(rng, palette.accents), 0.08)
        for row in (0, 1, 2):
            for i in range(6 - row % 2):
                pen.dot(
                    x + 0.05 + 0.1 * (i + row % 2 / 2),
                    -0.68 + 0.085 * row,
                    0.062,
                    toned(fruit, rng.uniform(-0.25, 0.25)),
                )
        pen.fill(box(x - 0.01, -0.5, x + 0.61, -0.3), mix((176, 128, 84), palette.ink, 0.15))
        pen.fill(box(x - 0.01, -0.41, x + 0.61, -0.39), DARK, 0.3)
    edges = np.linspace(-1.1, 1.1, 9)
    for i, (left, right) in enumerate(pairwise(edges)):
        colour = cloth[i % 2]
        pen.fill([(left * 0.85, -1.85), (right * 0.85, -1.85), (right, -1.35), (left, -1.35)], colour)
        pen.fill(oval((left + right) / 2, -1.36, (right - left) / 2, 0.15, 0, 180), darker(colour, 0.18))


def shopper(pen: Pen, rng: Rng, palette: Palette) -> None:
    """A person 1.4 units high who stands on (0, 0)."""
    skin = mix((246, 205, 170), (110, 70, 48), rng.random())
    hair = mix((40, 28, 26), (190, 140, 80), rng.random() ** 2)
    coat = mix(pick(rng, palette.accents), palette.ink, 0.15)
    pen.fill(box(-0.14, -0.4, -0.02, 0), palette.ink)
    pen.fill(box(0.03, -0.4, 0.15, 0), palette.ink)
    pen.fill(mirrored(smooth([(0.21, -0.3), (0.25, -0.7), (0.17, -1)]), across=True), coat)
    pen.dot(0, -1.15, 0.17, hair)
    pen.dot(0.02, -1.11, 0.14, skin)
    if rng.random() < 0.4:
        pen.fill(box(-0.26, -1.22, 0.26, -1.17), lighter(coat, 0.3))
        pen.fill(oval(0, -1.2, 0.16, 0.18, 180, 360), lighter(coat, 0.3))


def draw_forest(pen: Pen, rng: Rng, palette: Palette) -> None:
    palette, dark = time_of_day(rng, palette, 0.2)
    heaven(pen, rng, palette, dark, num_clouds=0, low=0.15)
    haze, green = palette.sky[1], palette.land[1]
    autumn, share_of_pines = rng.uniform(0, 0.9), rng.uniform(0.35, 0.75)
    for depth in np.linspace(0, 1, 5):
        ground, clear = 0.42 + 0.52 * depth, 0.25 + 0.75 * depth
        pen.fill(hill(rng, ground - 0.03, 0.03), mix(haze, darker(green, 0.45), clear))
        num_trees = round(20 - 12 * depth)
        for x in (np.arange(num_trees) + rng.uniform(0, 1, num_trees)) / num_trees:
            leaves = darker(mix(green, pick(rng, palette.accents[:3]), autumn * rng.random()), rng.uniform(0.05, 0.4))
            tree = pen.at(x, ground + rng.uniform(-0.01, 0.05), (0.2 + 0.2 * depth) * rng.uniform(0.7, 1.25))
            if rng.random() < share_of_pines:
                pine(tree, mix(haze, leaves, clear), 6)
            else:
                leafy_tree(tree, rng, mix(haze, leaves, clear), 24, 0.075)
    for x in rng.random(160):
        y = rng.uniform(0.95, 1.05)
        blade = mix(mix(green, pick(rng, palette.accents), 0.3), DARK, rng.uniform(0.2, 0.6))
        pen.line([(x, y), (x + rng.normal(0, 0.012), y - rng.uniform(0.02, 0.07))], 0.008, blade, end=0.001)


def draw_quilt(pen: Pen, rng: Rng, palette: Palette) -> None:
    palette, _ = time_of_day(rng, palette, 0.15)
    num_patches = int(rng.integers(5, 8))
    blanket = pen.at(0.5, 0.5, 1 / num_patches, pick(rng, (0, 0, 45, rng.uniform(-10, 10))))
    reach = num_patches // 2 + 3
    blocks = shuffled(rng, PATCHES)[: rng.integers(3, 7)]
    for row in range(-reach, reach + 1):
        for column in range(-reach, reach + 1):
            patch = blanket.at(column, row, 0.5, pick(rng, (0, 90, 180, 270)))
            colours = shuffled(rng, [*palette.accents, palette.paper, palette.ink])
            patch.fill(box(-1, -1, 1, 1), colours[0])
            blocks[(row + column) % len(blocks)](patch, colours[1], colours[2])
            for edge in (-0.9, 0.9):
                for t in np.arange(-0.85, 0.85, 0.2):
                    patch.fill(box(t, edge - 0.02, t + 0.12, edge + 0.02), palette.paper, 0.85)
                    patch.fill(box(edge - 0.02, t, edge + 0.02, t + 0.12), palette.paper, 0.85)
            patch.line([(-1, -1), (1, -1)], 0.05, DARK, 0.3)
            patch.line([(-1, -1), (-1, 1)], 0.05, DARK, 0.3)


def pinwheel_patch(pen: Pen, first: Colour, second: Colour) -> None:
    for angle in (0, 90, 180, 270):
        pen.at(0, 0, 0.82, angle).fill([(0, 0), (0, -1), (1, -1)], first)
        pen.at(0, 0, 0.82, angle).fill([(0, 0), (0.5, -0.5), (1, 0)], second)


def star_patch(pen: Pen, first: Colour, second: Colour) -> None:
    pen.at(0, 0, 0.8).fill(star(8, 0.55), first)
    pen.at(0, 0, 0.45, 22.5).fill(star(8, 0.6), second)


def stripe_patch(pen: Pen, first: Colour, second: Colour) -> None:
    for i, x in enumerate(np.linspace(-0.8, 0.55, 6)):
        pen.fill(box(x, -0.8, x + 0.16, 0.8), second if i % 3 == 1 else first)


def dot_patch(pen: Pen, first: Colour, second: Colour) -> None:
    for i, x in enumerate(np.linspace(-0.66, 0.66, 4)):
        for j, y in enumerate(np.linspace(-0.66, 0.66, 4)):
            pen.dot(x, y, 0.14, second if (i + j) % 2 else first)


def nested_patch(pen: Pen, first: Colour, second: Colour) -> None:
    for i, half in enumerate((0.8, 0.62, 0.44, 0.26)):
        pen.at(0, 0, half, 45 * (i % 2)).fill(box(-1, -1, 1, 1) * (0.72 if i % 2 else 1), second if i % 2 else first)


def chequered_patch(pen: Pen, first: Colour, second: Colour) -> None:
    for i in range(5):
        for j in range(i % 2, 5, 2):
            pen.at(0.32 * i - 0.64, 0.32 * j - 0.64, 0.16).fill(box(-1, -1, 1, 1), second if i == j else first)


PATCHES = (pinwheel_patch, star_patch, stripe_patch, dot_patch, nested_patch, chequered_patch)


def draw_mosaic(pen: Pen, rng: Rng, palette: Palette) -> None:
    pen.fill(box(0, 0, 1, 1), mix(palette.paper, palette.ink, pick(rng, (0.08, 0.75))))
    cx, cy = rng.uniform(0.35, 0.65, 2)
    num_rays, twist, rings = int(rng.integers(5, 13)), rng.uniform(-9, 9), rng.uniform(0.05, 0.12)
    colours = shuffled(rng, [*palette.accents, palette.paper])
    tile, motif = rng.uniform(0.026, 0.034), rng.integers(3)
    for radius in np.arange(tile / 2, 0.95, tile):  # tiles laid in rings about the centre
        num_tiles = max(1, round(2 * np.pi * radius / tile))
        angles = (np.arange(num_tiles) + rng.random()) * 2 * np.pi / num_tiles
        for angle in angles:
            x, y = cx + radius * np.cos(angle), cy + radius * np.sin(angle)
            if not (-0.03 < x < 1.03 and -0.03 < y < 1.03):
                continue
            ray = angle * num_rays / (2 * np.pi) + twist * radius
            if motif == 0:  # a sun: a core and turning rays
                which = 0 if radius < 0.12 else 1 + int(ray) % num_rays % 2 + 2 * (radius > 0.38)
            elif motif == 1:  # a rose of waves
                which = int((radius + 0.035 * np.cos(num_rays * angle)) / rings)
            else:  # a flower on a ground of rings
                outside = radius > 0.25 + 0.12 * np.cos(num_rays * angle)
                which = (3 + int(radius / rings) % 2 if outside else 1) * (radius > 0.09)
            shade = toned(colours[which % len(colours)], rng.uniform(-0.28, 0.28))
            corners = box(-0.44, -0.44, 0.44, 0.44) + rng.normal(0, 0.04, (4, 2))
            pen.at(x, y, tile, np.degrees(angle)).fill(corners, shade)


def draw_meadow(pen: Pen, rng: Rng, palette: Palette) -> None:
    palette, dark = time_of_day(rng, palette, 0.15)
    heaven(pen, rng, palette, dark, num_clouds=2, low=0.12)
    horizon = rng.uniform(0.2, 0.34)
    pen.fill(hill(rng, horizon - 0.02, 0.05), mix(palette.land[1], palette.sky[1], 0.5))
    pen.shade(box(0, horizon, 1, 1.01), palette.land[0], darker(palette.land[1], 0.35))
    kinds = [(lighter(c, rng.uniform(0, 0.3)), int(rng.integers(5, 9))) for c in (*palette.accents, palette.paper)]
    for nearness in np.sort(rng.random(420)) ** 1.2:
        x, y, size = rng.uniform(-0.03, 1.03), horizon + (1.05 - horizon) * nearness, 0.006 + 0.034 * nearness
        stem = toned(palette.land[1], rng.uniform(-0.4, 0.4))
        for lean, up in rng.normal((0, 0.5), (1, 0.6), (3, 2)) * size:
            pen.line([(x, y + 2.5 * size), (x + lean, y - up)], size * 0.22, stem, end=size * 0.04)
        colour, num_petals = pick(rng, kinds)
        head = pen.at(x, y, size * rng.uniform(0.7, 1.1), rng.uniform(0, 60))
        blade = petal(2.6 / num_petals, 1.0, 1.4)[::4]
        for i in range(num_petals):
            head.at(0, 0, 1, i * 360 / num_petals).fill(blade, darker(colour, 0.18 * (i % 2)))
        head.dot(0, 0, 0.28, mix(pick(rng, palette.accents[:2]), palette.ink, 0.2))


@dataclass(frozen=True)
class Kind:
    """A kind of picture; `complexity` runs from 1 (one flat shape) to 10 (no quiet spot)."""

    name: str
    draw: Callable[[Pen, Rng, Palette], None]
    complexity: int


KINDS = (
    Kind("disc", draw_disc, 1),
    Kind("heart", draw_heart, 1),
    Kind("moon", draw_moon, 1),
    Kind("arrow", draw_arrow, 1),
    Kind("star", draw_star, 1),
    Kind("leaf", draw_leaf, 2),
    Kind("house", draw_house, 2),
    Kind("umbrella", draw_umbrella, 2),
    Kind("mug", draw_mug, 3),
    Kind("cactus", draw_cactus, 3),
    Kind("fish", draw_fish, 3),
    Kind("flower", draw_flower, 3),
    Kind("mushroom", draw_mushroom, 4),
    Kind("lighthouse", draw_lighthouse, 4),
    Kind("tree", draw_tree, 4),
    Kind("sailing-boat", draw_sailing_boat, 5),
    Kind("constellations", draw_constellations, 5),
    Kind("balloons", draw_balloons, 6),
    Kind("mountains", draw_mountains, 6),
    Kind("forest", draw_forest, 7),
    Kind("aquarium", draw_aquarium, 7),
    Kind("skyline", draw_skyline, 8),
    Kind("harbour", draw_harbour, 8),
    Kind("bookshelf", draw_bookshelf, 8),
    Kind("traffic", draw_traffic, 8),
    Kind("market", draw_market, 9),
    Kind("meadow", draw_meadow, 9),
    Kind("parasols", draw_parasols, 9),
    Kind("mosaic", draw_mosaic, 10),
    Kind("quilt", draw_quilt, 10),
)


def draw_picture(kind: Kind, number: int, *, size: int = 256, seed: int = 0) -> Image.Image:
    """One picture, size x size RGB; `number` counts the pictures of a kind."""
    rng = np.random.default_rng((seed, zlib.crc32(kind.name.encode()), number))
    canvas = Image.new("RGB", (size * SUPERSAMPLING, size * SUPERSAMPLING))
    kind.draw(Pen.on(canvas), rng, pick(rng, PALETTES))
    return canvas.resize((size, size), Image.Resampling.LANCZOS)


def write_kind(folder: Path, kind: Kind, num_per_kind: int, size: int, seed: int) -> list[str]:
    """Writes one kind's pictures and returns their paths relative to the folder."""
    (folder / kind.name).mkdir(parents=True, exist_ok=True)
    paths = [f"{kind.name}/{kind.name}-{number:02d}.jpg" for number in range(num_per_kind)]
    for number, path in enumerate(paths):
        picture = draw_picture(kind, number, size=size, seed=seed)
        picture.save(folder / path, quality=JPEG_QUALITY, subsampling=0)
    return paths


def write_pictures(
    out: Path, *, num_per_kind: int = 28, size: int = 256, seed: int = 0, show_progress_bar: bool = False
) -> Path:
    """Draws `num_per_kind` pictures of each kind as out/<kind>/<kind>-00.jpg and returns the path of out/pictures.csv.

    The table's columns are path (relative to its folder), label (the kind) and complexity (1 to 10).
    """
    if num_per_kind < 1:
        raise ValueError(f"expected num_per_kind of at least 1, got {num_per_kind}")
    if size < 16:
        raise ValueError(f"expected a size of at least 16 pixels, got {size}")
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    # More than eight processes take longer to start than they save. The slowest kinds, last in the table, go first.
    pool = loky.ProcessPoolExecutor(max_workers=min(8, loky.cpu_count()))
    try:
        futures = {kind.name: pool.submit(write_kind, out, kind, num_per_kind, size, seed) for kind in KINDS[::-1]}
        drawn = loky.as_completed(futures.values())
        for _ in tqdm(drawn, "draw", total=len(KINDS), unit=" kinds", leave=False, disable=not show_progress_bar):
            pass
        rows = [(path, kind.name, kind.complexity) for kind in KINDS for path in futures[kind.name].result()]
    finally:
        pool.shutdown(kill_workers=True)  # else Ctrl-C would wait for all that was submitted
    with open(out / "pictures.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "label", "complexity"), *rows])
    return out / "pictures.csv"


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw sample pictures of 30 kinds, from plain to crowded.")
    parser.add_argument("out", type=Path, help="the folder to write to")
    parser.add_argument("--num-per-kind", type=int, default=28, help="pictures of each kind (default 28)")
    parser.add_argument("--size", type=int, default=256, help="width and height in pixels (default 256)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other pictures (default 0)")
    given = parser.parse_args()
    try:
        print(write_pictures(given.out, num_per_kind=given.num_per_kind, size=given.size, seed=given.seed))
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
