"""The command `remove`: take pictures out of an index."""

import shlex
from typing import Annotated

import typer

from retrieval.errors import UsageError
from ui.opening import open_index
from ui.options import AsJson, IndexFolder
from ui.printing import to_json


def remove(
    index: IndexFolder,
    ids: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ID", help="Ids of pictures, as `search --json` tells them, or their paths.", show_default=False
        ),
    ] = None,
    where: Annotated[
        str | None, typer.Option("--where", metavar="SQL", help="All pictures whose columns meet this condition.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Take pictures out of an index, by their ids or paths, or by a condition; the files they came from stay untouched.

    They are found no more, and `restore` brings them back, until `compact` frees what they took. So does `index`, as
    long as their source still gives them. A name that is no id of the index, nor the path of one picture, is an error,
    and nothing is removed then.

    \b
    Examples:
      spyglass remove beach/042.jpg beach/043.jpg --index photos.index
      spyglass remove ~/photos/beach/042.jpg --index photos.index
      spyglass remove --index photos.index --where "label = 'screenshot' AND width < 400"
    """
    if bool(ids) == (where is not None):
        raise UsageError(f"expected ids or --where, got {'both' if ids else 'neither'}; give one of the two")
    target = open_index(index)
    num_removed = target.remove(tuple(ids or ()), where=where)
    num_left = target.info()["images"]
    if as_json:
        typer.echo(to_json({"removed": num_removed, "images": num_left, "version": target.version}))
        return
    typer.echo(f"{index}: {num_removed} removed, {num_left} left")
    if num_removed:
        undo = shlex.join(["spyglass", "restore", str(target.version - 1), "--index", str(index)])
        typer.echo(f"to have them back: {undo}", err=True)
