"""Contact sheets: each query with where the model looked, and its hits as tiles with score and dimension.

The sheet is drawn with Pillow and its built-in font alone, so that it looks the same on every machine.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from ui.attention import attention_overlay, colours
from ui.lettering import fitted, font
from ui.palette import ACCENT, CARD, EDGE, FAINT_INK, INK, MAT, PAGE, QUERY_ACCENT, SOFT_INK, TRACK

__all__ = ["SheetRow", "SheetStyle", "Tile", "attention_overlay", "contact_sheet"]


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One picture of the sheet: a hit with its score and similarity, or a query with neither."""

    picture: Image.Image
    title: str
    detail: str = ""
    score: float | None = None
    similarity: float | None = None
    dim: int


@dataclass(frozen=True, kw_only=True)
class SheetRow:
    """A query, its attention map (h, w) or None, and its hits, best first."""

    query: Tile
    attention: np.ndarray | None = None
    hits: Sequence[Tile]


@dataclass(frozen=True, kw_only=True)
class SheetStyle:
    """Sizes in pixels; more hits than `hits_per_line` go on below; `max_dim` is the dim that fills a bar."""

    tile: int = 160
    gap: int = 18
    margin: int = 36
    hits_per_line: int = 8
    max_dim: int = 512

    def __post_init__(self) -> None:
        if self.tile < 96 or self.gap < 4 or self.margin < 0 or self.hits_per_line < 1 or self.max_dim < 1:
            raise ValueError(f"expected tile >= 96, gap >= 4, margin >= 0, the others >= 1, got {self}")

    @property
    def caption(self) -> int:
        """Height of the text and the bar below a tile."""
        return 66


def contact_sheet(
    rows: Sequence[SheetRow], *, title: str = "Spyglass", subtitle: str = "", style: SheetStyle | None = None
) -> Image.Image:
    """Draw one card a row: query, where the model looked, and the hits from left to right, then from top to bottom.

    Returns an RGB image as wide as the longest line of hits needs. Raises `ValueError` for no rows at all.
    """
    if not rows:
        raise ValueError("expected at least one row to draw, got none")
    style = style or SheetStyle()
    num_columns = min(max(1, *(len(row.hits) for row in rows)), style.hits_per_line)
    num_leading = 2 if any(row.attention is not None for row in rows) else 1
    pitch = style.tile + style.gap
    card_width = (num_leading + num_columns) * pitch + 2 * style.gap
    card_heights = [_card_height(row, style) for row in rows]
    header = 96
    width = card_width + 2 * style.margin
    height = header + sum(card_heights) + (len(rows) - 1) * style.gap + 2 * style.margin
    sheet = Image.new("RGB", (width, height), PAGE)
    _draw_header(sheet, title, subtitle, style, hits_left=style.margin + 2 * style.gap + num_leading * pitch)
    top = style.margin + header
    for row, card_height in zip(rows, card_heights, strict=True):
        _paste_rounded(sheet, _card((card_width, card_height)), (style.margin, top), radius=16)
        _draw_row(sheet, row, style, left=style.margin + style.gap, top=top + style.gap, num_leading=num_leading)
        top += card_height + style.gap
    return sheet


def _draw_header(sheet: Image.Image, title: str, subtitle: str, style: SheetStyle, *, hits_left: int) -> None:
    draw = ImageDraw.Draw(sheet)
    left, top, room = style.margin, style.margin, sheet.width - 2 * style.margin
    draw.text((left, top), fitted(title, 30, room), INK, font(30), anchor="lt")
    draw.text((left, top + 40), fitted(subtitle, 15, room), SOFT_INK, font(15), anchor="lt")
    for text, x in (("QUERY", left + style.gap), ("HITS, BEST FIRST", hits_left)):
        draw.text((x, top + 84), text, FAINT_INK, font(11), anchor="ls")
    if hits_left > left + style.gap + 2 * (style.tile + style.gap):
        x = left + 2 * style.gap + style.tile
        draw.text((x, top + 84), "WHERE IT LOOKED", FAINT_INK, font(11), anchor="ls")


def _draw_row(sheet: Image.Image, row: SheetRow, style: SheetStyle, *, left: int, top: int, num_leading: int) -> None:
    pitch = style.tile + style.gap
    _draw_tile(sheet, row.query, style, left, top, accent=QUERY_ACCENT)
    if row.attention is not None:
        overlay = attention_overlay(row.query.picture, row.attention)
        _paste_rounded(sheet, _matted(overlay, style.tile), (left + pitch, top), radius=10)
        _draw_legend(sheet, style, left + pitch, top + style.tile)
    divider = left + num_leading * pitch
    bottom = top + _card_height(row, style) - 2 * style.gap
    ImageDraw.Draw(sheet).line([(divider, top), (divider, bottom)], fill=EDGE, width=1)
    for place, hit in enumerate(row.hits):
        line, column = divmod(place, style.hits_per_line)
        hit_top = top + line * (style.tile + style.caption + style.gap)
        _draw_tile(sheet, hit, style, divider + style.gap + column * pitch, hit_top, accent=ACCENT)


def _card_height(row: SheetRow, style: SheetStyle) -> int:
    num_lines = max(-(-len(row.hits) // style.hits_per_line), 1)
    return num_lines * (style.tile + style.caption + style.gap) + style.gap


def _draw_tile(sheet: Image.Image, tile: Tile, style: SheetStyle, left: int, top: int, *, accent: str) -> None:
    """A rounded picture, below it title, detail, scores and the bar of its dim; nothing leaves the tile's width."""
    _paste_rounded(sheet, _matted(tile.picture, style.tile), (left, top), radius=10)
    draw = ImageDraw.Draw(sheet)
    right, y = left + style.tile, top + style.tile
    score = "" if tile.score is None else f"{tile.score:.3f}"
    room = style.tile - (font(15).getlength(score) + 10 if score else 0)
    draw.text((left, y + 24), fitted(tile.title, 15, room), INK, font(15), anchor="ls")
    draw.text((right, y + 24), score, accent, font(15), anchor="rs")
    similarity = "" if tile.similarity is None else f"sim {tile.similarity:.2f}"
    room = style.tile - (font(12).getlength(similarity) + 8 if similarity else 0)
    draw.text((left, y + 43), fitted(tile.detail, 12, room), SOFT_INK, font(12), anchor="ls")
    draw.text((right, y + 43), similarity, SOFT_INK, font(12), anchor="rs")
    dim = f"{tile.dim} dims"
    bar_right = right - font(12).getlength(f"{style.max_dim} dims") - 8
    _draw_bar(sheet, (left, y + 57, int(bar_right), y + 63), tile.dim / style.max_dim, accent)
    draw.text((right, y + 64), dim, SOFT_INK, font(12), anchor="rs")


def _draw_bar(sheet: Image.Image, box: tuple[int, int, int, int], share: float, colour: str) -> None:
    left, top, right, bottom = box
    size = (right - left, bottom - top)
    filled = (max(round(min(share, 1.0) * size[0]), size[1]), size[1])  # never less than a dot
    for extent, fill in ((size, TRACK), (filled, colour)):
        _paste_rounded(sheet, Image.new("RGB", extent, fill), (left, top), radius=size[1] // 2)


def _draw_legend(sheet: Image.Image, style: SheetStyle, left: int, y: int) -> None:
    """What the overlay's colours mean, from less to more."""
    draw = ImageDraw.Draw(sheet)
    less, more = font(12).getlength("less") + 8, font(12).getlength("more") + 8
    length = int(style.tile - less - more)
    ramp = np.broadcast_to(colours(np.linspace(0, 1, length)), (6, length, 3))
    _paste_rounded(sheet, Image.fromarray((ramp * 255).astype(np.uint8)), (int(left + less), y + 17), radius=3)
    draw.text((left, y + 24), "less", SOFT_INK, font(12), anchor="ls")
    draw.text((left + style.tile, y + 24), "more", SOFT_INK, font(12), anchor="rs")


def _matted(picture: Image.Image, side: int) -> Image.Image:
    """The whole picture, undistorted, in the middle of a square mat."""
    picture = picture.convert("RGB")
    scale = min(side / picture.width, side / picture.height)
    size = (max(round(picture.width * scale), 1), max(round(picture.height * scale), 1))
    matted = Image.new("RGB", (side, side), MAT)
    matted.paste(picture.resize(size, Image.Resampling.LANCZOS), ((side - size[0]) // 2, (side - size[1]) // 2))
    return matted


def _card(size: tuple[int, int]) -> Image.Image:
    card = Image.new("RGB", size, CARD)
    ImageDraw.Draw(card).rounded_rectangle((0, 0, size[0] - 1, size[1] - 1), 16, outline=EDGE, width=1)
    return card


def _paste_rounded(sheet: Image.Image, picture: Image.Image, place: tuple[int, int], *, radius: int) -> None:
    sheet.paste(picture, place, _rounded_mask(picture.size, radius))


@lru_cache(maxsize=64)
def _rounded_mask(size: tuple[int, int], radius: int) -> Image.Image:
    # Pillow draws corners without smoothing; four times the size and back gives them soft edges.
    large = Image.new("L", (size[0] * 4, size[1] * 4), 0)
    ImageDraw.Draw(large).rounded_rectangle((0, 0, size[0] * 4 - 1, size[1] * 4 - 1), radius * 4, fill=255)
    return large.resize(size, Image.Resampling.LANCZOS)
