"""Settings that are one of a few words."""

from collections.abc import Collection

from retrieval.errors import UsageError
from retrieval.nearest_name import did_you_mean


def check_choices(config: object, **choices: Collection[str]) -> None:
    """Raise `UsageError` unless each named field of `config` is among its choices."""
    for field, words in choices.items():
        value = getattr(config, field)
        if value not in words:
            raise UsageError(f"expected {field} among {', '.join(words)}, got {value!r}{did_you_mean(value, words)}")
