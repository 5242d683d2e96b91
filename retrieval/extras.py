"""Packages that only some of Spyglass needs: where they are missing, it is told which extra brings them."""

from collections.abc import Iterator
from contextlib import contextmanager

from retrieval.errors import MissingExtraError


@contextmanager
def packages_for(what: str, *, extra: str) -> Iterator[None]:
    """Imports within; a package that is not there raises `MissingExtraError`, which names the extra."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"expected the packages for {what}, found them incomplete ({error}); "
            f"pip install 'spyglass-image-search[{extra}]'"
        ) from None
