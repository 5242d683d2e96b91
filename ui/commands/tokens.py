"""The command `spyglass tokens`: local tokens for the pictures of an index that was made without, or with fewer."""

from dataclasses import asdict
from typing import Annotated

import typer

from ui.endings import SKIPPED
from ui.opening import open_index
from ui.options import AsJson, BatchSize, Device, IndexFolder, ModelPlace, OnDevice, Workers
from ui.printing import shows_bars, to_json


def tokens(
    index: IndexFolder,
    token_bytes: Annotated[
        int, typer.Option("--tokens", metavar="BYTES", help="How much the tokens of a picture may take.")
    ] = 1024,
    model: ModelPlace = None,
    workers: Workers = None,
    batch_size: BatchSize = 64,
    device: OnDevice = Device.auto,
    as_json: AsJson = False,
) -> None:
    """Give an index the local tokens that reranking compares, without indexing anew.

    Pictures are read again from where they lie; their ids and vectors stay. An interrupted run is taken up where it
    was by the same command. Exits with 3 if pictures were skipped, because they are gone or have changed.

    \b
    Examples:
      spyglass tokens --index photos.index
      spyglass tokens --index photos.index --tokens 2048 --workers 4 --json
    """
    from ui import reports

    target = open_index(index, device, model=model)
    report = target.add_tokens(
        token_bytes=token_bytes, batch_size=batch_size, num_workers=workers, show_progress_bar=shows_bars()
    )
    typer.echo(to_json(asdict(report)) if as_json else reports.tokens_text(report, index))
    if report.skipped:
        raise typer.Exit(SKIPPED)
