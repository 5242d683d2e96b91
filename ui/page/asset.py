"""The files of the page's own elements: what they look like, and what they do in the browser."""

from pathlib import Path

_HOME = Path(__file__).with_name("parts")


def asset(name: str) -> str:
    """The text of one of them, such as `hit_grid.js`."""
    return (_HOME / name).read_text("utf-8")


def script(name: str) -> str:
    """The script of an element, after what all of them build it with."""
    return asset("element.js") + asset(name)
