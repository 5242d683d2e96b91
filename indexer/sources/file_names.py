"""Names of files that are no text: they can be shown, but not kept."""

from indexer.unicode_text import is_unicode
from retrieval.errors import ImageError


def refuse_odd_name(name: str) -> None:
    """Raise `ImageError` for a name with bytes that are no UTF-8, for which Python puts surrogates."""
    if not is_unicode(name):
        raise ImageError("expected a name in UTF-8, got other bytes; rename it")


def shown(name: str) -> str:
    """A name with those bytes spelled out."""
    return name.encode("utf-8", "backslashreplace").decode()
