"""Where the files that ship with Spyglass lie: `data/` in a checkout, inside this package in a wheel."""

from pathlib import Path

from retrieval.errors import WeightsError

_PACKAGE = Path(__file__).resolve().parent
_PLACES = (_PACKAGE / "data", _PACKAGE.parent / "data")


def shipped(name: str) -> Path:
    """Path of a shipped file or folder, such as `"weights/default"`; `WeightsError` where the install lacks it."""
    for place in _PLACES:
        if (place / name).exists():
            return place / name
    raise WeightsError(
        f"expected {name!r} to ship with this install, found it in neither of {[str(p) for p in _PLACES]}"
    )
