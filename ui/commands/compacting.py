"""The command `compact`: one segment instead of many, and disk space freed."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ui.opening import open_index
from ui.options import AsJson, IndexFolder
from ui.printing import size, to_json

if TYPE_CHECKING:
    from indexer.changes.compacting import CompactReport


def compact(
    index: IndexFolder,
    keep_snapshots: Annotated[
        int,
        typer.Option(
            "--keep-snapshots", metavar="N", min=0, help="How many earlier states can still be restored afterwards."
        ),
    ] = 1,
    as_json: AsJson = False,
) -> None:
    """Merge an index into one segment, drop the pictures that were removed, and free what nothing needs any more.

    Every hit, score and id stays the same. The states before the newest --keep-snapshots can be restored no more; with
    0, what was removed is gone from the disk for good.

    \b
    Examples:
      spyglass compact --index photos.index
      spyglass compact --index photos.index --keep-snapshots 0 --json
    """
    report = open_index(index).compact(keep_snapshots=keep_snapshots)
    typer.echo(to_json(asdict(report)) if as_json else compacted_text(report, index))


def compacted_text(report: "CompactReport", index: Path) -> str:
    """What was merged and freed, and what the snapshots that were kept still take."""
    segments = f"segments {report.segments_before} before, {report.segments_after} now"
    sizes = f"on disk {size(report.bytes_before)} before, {size(report.bytes_after)} now"
    lines = [f"{index}: {report.images} images; {segments}; {report.deleted_rows} removed rows dropped; {sizes}"]
    if report.snapshots:
        kept = "1 earlier snapshot" if report.snapshots == 1 else f"{report.snapshots} earlier snapshots"
        lines.append(f"that includes {kept}; --keep-snapshots 0 frees what only they need")
    return "\n".join(lines)
