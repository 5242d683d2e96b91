"""The command `reencode`: an index that goes over to another model."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ui.endings import FAILED, SKIPPED
from ui.opening import open_index
from ui.options import AsJson, BatchSize, Device, IndexFolder, OnDevice, Workers
from ui.printing import one_line, shows_bars, to_json
from ui.ranker_note import ranker_note
from ui.reports import skipped_lines

if TYPE_CHECKING:
    from indexer.changes.reencoding import ReencodeReport


def reencode(
    index: IndexFolder,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", metavar="NAME|DIR", help="Weights: a name or a folder.  [default: what now bears the old name]"
        ),
    ] = None,
    drop_missing: Annotated[
        bool, typer.Option("--drop-missing", help="Go on without the pictures that cannot be read any more.")
    ] = False,
    workers: Workers = None,
    batch_size: BatchSize = 64,
    device: OnDevice = Device.auto,
    as_json: AsJson = False,
) -> None:
    """Encode all pictures of an index anew, by another model; ids, labels and columns stay.

    The old vectors serve until all new ones are there, and stay as a snapshot. An interrupted run is taken up where it
    was by the same command, unless pictures were added or removed meanwhile. If pictures are gone, nothing is replaced,
    and the exit code is 1; with --drop-missing the index goes on without them, and it is 3.

    \b
    Examples:
      spyglass reencode --index photos.index --model default
      spyglass reencode --index photos.index --model my-weights/ --drop-missing --json
    """
    target = open_index(index, device)
    embedder = None
    if model is not None:
        from retrieval import Embedder

        embedder = Embedder.load(model, device=device.value)
    report = target.reencode(
        embedder,
        drop_missing=drop_missing,
        batch_size=batch_size,
        num_workers=workers,
        show_progress_bar=shows_bars(),
    )
    typer.echo(to_json(asdict(report)) if as_json else reencoded_text(report, index))
    note = ranker_note(target.info(), index)
    if report.is_whole and note is not None:
        typer.echo(one_line(f"rankers: {note}"), err=True)
    if report.skipped:
        raise typer.Exit(SKIPPED if report.is_whole else FAILED)


def reencoded_text(report: "ReencodeReport", index: Path) -> str:
    """What was encoded, what was not and why, and which vectors the index serves now."""
    counts = ", ".join(f"{getattr(report, name)} {name}" for name in ("encoded", "unchanged", "skipped"))
    lines = [f"{index}: {counts} in {report.seconds:.1f} s"]
    if report.changed:
        lines.append(f"{report.changed} of them show another picture than before")
    if not report.is_whole:
        lines.append("the old vectors stay in use; bring the pictures back and run this again, or with --drop-missing")
    return "\n".join([*lines, *skipped_lines(report.failures)])
