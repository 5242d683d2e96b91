"""What the commands print: JSON for programs, aligned tables with small bars for people."""

import json
import math
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

_EIGHTHS = " ▏▎▍▌▋▊▉█"


def shows_bars() -> bool:
    """Whether progress bars make sense: they go to stderr, and only to a terminal."""
    return sys.stderr.isatty()


def to_json(value: Any) -> str:
    """One JSON document; ASCII only, so that any terminal and any file name will do."""
    return json.dumps(plain(value), indent=2, allow_nan=False)


def json_line(value: Any) -> str:
    """As `to_json`, on one line."""
    return json.dumps(plain(value), allow_nan=False)


def plain(value: Any) -> Any:
    """The value in types that JSON has: NaN and the infinities become null, dates ISO 8601, the unknown a string."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (date, datetime)):
        return value.isoformat() if value == value else None  # pandas' NaT is a datetime that differs from itself
    if hasattr(value, "tolist"):  # numpy's scalars and arrays, known by their method so that numpy need not be loaded
        return plain(value.tolist())
    return str(value)


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """Lines of columns two blanks apart, headings first; the columns numbered in `right` are aligned to the right."""
    lines = [list(headings), *map(list, rows)]
    widths = [max(display_width(line[column]) for line in lines) for column in range(len(headings))]
    return "\n".join(
        "  ".join(_pad(cell, widths[column], column in right) for column, cell in enumerate(line)).rstrip()
        for line in lines
    )


def bar(share: float, *, length: int = 10) -> str:
    """A bar of at most `length` characters for a share in 0..1, in eighths of one where stdout can show them."""
    share = min(max(share, 0.0), 1.0)
    if not _stdout_shows(_EIGHTHS):
        return "#" * round(share * length)
    eighths = round(share * length * 8)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def one_line(text: object) -> str:
    """The text with control characters and line breaks made visible, so that a file name cannot upset the terminal."""
    return "".join(char if char.isprintable() or char == " " else repr(char)[1:-1] for char in str(text))


def shorten(text: str, length: int) -> str:
    """The text cut in its middle to at most `length` columns: the start and the end of a path say the most."""
    if display_width(text) <= length:
        return text
    head, tail = text[: length // 3], text[-(length - length // 3 - 1) :]
    while tail and display_width(head) + 1 + display_width(tail) > length:
        tail = tail[1:]
    return f"{head}…{tail}"


def size(num_bytes: float) -> str:
    """A number of bytes as people write it, such as `1.4 MB`; a kilobyte is 1000 bytes."""
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} TB"


def counted(num: int, one: str, many: str) -> str:
    """A number of things, such as `1 query` or `2,000 queries`."""
    return f"{num:,} {one if num == 1 else many}"


def display_width(text: str) -> int:
    """Columns that a text takes in a terminal: East Asian wide characters take two, combining marks none."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    return len(text) + wide - sum(unicodedata.combining(char) > 0 for char in text)


def _pad(text: str, width: int, to_the_right: bool) -> str:
    blanks = " " * (width - display_width(text))
    return blanks + text if to_the_right else text + blanks


def _stdout_shows(text: str) -> bool:
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except UnicodeEncodeError:
        return False
    return True
