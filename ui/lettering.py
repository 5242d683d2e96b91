"""Text on pictures: Pillow's built-in font, and lines that always fit the room they have."""

import unicodedata
from functools import lru_cache

from PIL import ImageFont

_LOOKALIKES = str.maketrans(
    {"‐": "-", "‑": "-", "–": "-", "—": "-", "×": "x", "\u00a0": " ", "ß": "ss", "æ": "ae", "ø": "o"}
)


@lru_cache(maxsize=16)
def font(size: int) -> ImageFont.FreeTypeFont:
    """The built-in font, `size` pixels high."""
    return ImageFont.load_default(size)


def fitted(text: str, font_size: int, room: float) -> str:
    """The text on one line, ending in an ellipsis where `room` pixels are too few for all of it."""
    text = drawable(" ".join(text.split()))
    measure = font(font_size).getlength
    if measure(text) <= room:
        return text
    # The longest prefix that fits, by bisection: `fits` characters do, `too_long` do not.
    fits, too_long = 0, len(text)
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        fits, too_long = (middle, too_long) if measure(text[:middle].rstrip() + "…") <= room else (fits, middle)
    return text[:fits].rstrip() + "…" if fits else ""


def drawable(text: str) -> str:
    """The text in letters that the font has: accents are dropped (it knows plain Latin only), the rest becomes `?`."""
    plain = "".join(char for char in unicodedata.normalize("NFKD", text.translate(_LOOKALIKES)) if not _is_mark(char))
    return "".join(char if _has_glyph(char) else "?" for char in plain)


def _is_mark(char: str) -> bool:
    return unicodedata.category(char) == "Mn"


@lru_cache(maxsize=4096)
def _has_glyph(char: str) -> bool:
    return char.isascii() or bytes(font(20).getmask(char)) != _missing_glyph()


@lru_cache(maxsize=1)
def _missing_glyph() -> bytes:
    return bytes(font(20).getmask("\ufffe"))
