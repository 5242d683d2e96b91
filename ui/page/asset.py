"""The files of the page's own elements: what they look like, and what they do in the browser."""

from pathlib import Path

_HOME = Path(__file__).with_name("parts")


def asset(name: str) -> str:
    """The text of one of them, such as `hit_grid.js`."""
    return (_HOME / name).read_text("utf-8")
