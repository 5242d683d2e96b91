"""What is given to an index in Python, looked at before anything is done with it: each raises `UsageError`."""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

from retrieval.errors import UsageError


def is_count(value: Any) -> bool:
    """Whether it is a whole number of at least 0."""
    return isinstance(value, Integral) and not isinstance(value, bool) and value >= 0


def is_real(value: Any) -> bool:
    """Whether it is a finite number."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def listed(values: Any) -> list[Any]:
    """The values of a list, a tuple or an array in a list; none of what is neither."""
    values = values.tolist() if hasattr(values, "tolist") else values
    return list(values) if isinstance(values, Sequence) else []


def check_integers(**numbers: Any) -> None:
    """Each by its name; None is left to whoever takes it."""
    for name, number in numbers.items():
        if number is not None and (not isinstance(number, Integral) or isinstance(number, bool)):
            raise UsageError(f"expected {name} as an integer, got {number!r}")


def check_crop(crop: Any) -> None:
    """The part of a picture that is meant, if any: x, y, width and height."""
    numbers = listed(crop)
    if crop is not None and not (len(numbers) == 4 and all(map(is_count, numbers)) and min(numbers[2:]) > 0):
        raise UsageError(f"expected crop as x, y, width and height in whole pixels, got {crop!r}")


def check_several(**lists: Any) -> None:
    """Each by its name: values in a list, rather than one alone, of which each letter might be taken for a value."""
    for name, values in lists.items():
        if isinstance(values, str | bytes | os.PathLike) or not isinstance(values, Iterable):
            kind = type(values).__name__
            raise UsageError(f"expected {name} in a list, got one value of type {kind}; put it into a list")


def check_columns(metadata: Any) -> None:
    """The columns of a query, if any."""
    if metadata is not None and not isinstance(metadata, Mapping):
        raise UsageError(f"expected metadata as columns and their values, such as {{'price': 12.5}}, got {metadata!r}")


def check_id(name: Any) -> None:
    """The id of an image."""
    if not isinstance(name, str):
        raise UsageError(f"expected an id, which is a str, got {name!r}")


def names_of(names: Any) -> list[str]:
    """Ids, or paths of pictures, as text: those in a list, or one alone."""
    names = [names] if isinstance(names, str | bytes | os.PathLike) or not isinstance(names, Iterable) else [*names]
    for name in names:
        if not isinstance(name, str | os.PathLike):
            raise UsageError(f"expected ids or paths, got {name!r}")
    return [*map(os.fspath, names)]


def check_sources(sources: Sequence[Any]) -> None:
    """Paths or URLs, each an argument of its own."""
    for source in sources:
        if not isinstance(source, str | os.PathLike):
            kind = type(source).__name__
            raise UsageError(f"expected a path or URL as a source, got one of type {kind}; give each on its own")
