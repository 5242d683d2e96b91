"""What somebody may have meant who wrote a name that is none of those there are."""

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(name: object, names: Iterable[str]) -> str | None:
    """The one of the names most like another, in whatever case; None where none is much like it."""
    by_text = {each.casefold(): each for each in names}
    alike = get_close_matches(str(name).casefold(), by_text, n=1, cutoff=0.5)
    return by_text[alike[0]] if alike else None


def did_you_mean(name: object, names: Iterable[str]) -> str:
    """The end of a sentence, such as "; did you mean 'coatnet_mini'?"; "" where none of the names is much like it."""
    meant = nearest(name, names)
    return "" if meant is None else f"; did you mean {meant!r}?"
