"""The command `spyglass ui`."""

from typing import Annotated

import typer

from ui.opening import open_index
from ui.options import Device, IndexFolder, ModelPlace, OnDevice


def ui(
    index: IndexFolder,
    port: Annotated[
        int | None, typer.Option("--port", min=0, max=65535, help="0: any that is free.  [default: 8501 or after]")
    ] = None,
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="Where to listen; 0.0.0.0 lets other machines in.")
    ] = "127.0.0.1",
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Do not open a browser.")] = False,
    model: ModelPlace = None,
    device: OnDevice = Device.auto,
) -> None:
    """Open a page to search an index, to look over its pictures, and to train rankers.

    Its address is printed to stderr. Visitors from other machines may look and judge, but not add folders or train.

    \b
    Examples:
      spyglass ui --index photos.index
      spyglass ui --index photos.index --port 8600 --no-browser
    """
    target = open_index(index, device, model=model)
    target.info()
    from ui.page.server import serve

    serve(target, host=host, port=port, opens_browser=not no_browser)
