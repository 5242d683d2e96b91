"""A command line whose errors call an option what its user typed: `--group-size`, where Python has `group_size`."""

import re
from collections.abc import Iterable
from typing import Any

import typer
from typer.core import TyperCommand

from retrieval.errors import SpyglassError

# What stands in quotes is the user's own, such as a condition or the name of a column.
_QUOTED = r"""(?<!\w)'[^']*'|"[^"]*\""""


class CommandLine(typer.Typer):
    """A Typer app of such commands."""

    def command(self, name: str | None = None, **settings: Any):
        return super().command(name, **{"cls": _Command, **settings})


class _Command(TyperCommand):
    def invoke(self, ctx: typer.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SpyglassError as error:
            error.args = (as_typed(str(error), self.params),)
            raise


def as_typed(message: str, parameters: Iterable[Any]) -> str:
    """The message with each Python name of several words that is an option's put as that option.

    A name of one word, such as `rerank`, may just be a word.
    """
    options = {
        each.name: max(each.opts, key=len) for each in parameters if "_" in each.name and each.opts[0].startswith("-")
    }
    if not options:
        return message
    words = rf"{_QUOTED}|(?<![\w/.-])(?:{'|'.join(options)})(?![\w/.-])"
    return re.sub(words, lambda found: options.get(found[0], found[0]), message)
