"""The commands `snapshots` and `restore`: the earlier states of an index, and the way back to one."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from ui.opening import open_index
from ui.options import AsJson, IndexFolder
from ui.printing import one_line, size, table, to_json

if TYPE_CHECKING:
    from indexer.storage.snapshots import Snapshot


def snapshots(index: IndexFolder, as_json: AsJson = False) -> None:
    """List the states that an index can go back to: every change makes one, `compact` lets go of all but the newest.

    `search`, `info` and `export` read one with --snapshot N; `restore` makes it the present one.

    \b
    Examples:
      spyglass snapshots --index photos.index
      spyglass search query.jpg --index photos.index --snapshot 12
    """
    found = open_index(index).snapshots()
    typer.echo(to_json({"snapshots": [asdict(each) for each in found]}) if as_json else snapshots_text(found))


def restore(
    version: Annotated[int, typer.Argument(metavar="N", help="Which snapshot, by its number.", min=0)],
    index: IndexFolder,
    as_json: AsJson = False,
) -> None:
    """Make an earlier state of an index the present one; the state until now becomes a snapshot, so nothing is lost.

    \b
    Examples:
      spyglass restore 12 --index photos.index
    """
    target = open_index(index)
    target.restore(version)
    num_images = target.info()["images"]
    if as_json:
        typer.echo(to_json({"restored": version, "version": target.version, "images": num_images}))
    else:
        typer.echo(f"{index}: {num_images} images, as in snapshot {version}")


def snapshots_text(found: Sequence["Snapshot"]) -> str:
    """One line a snapshot, the newest last."""
    rows = [
        (
            str(each.version),
            _moment(each.when),
            one_line(each.change) or "-",
            f"{each.images:,}",
            size(each.size_bytes),
            "present" if each.is_current else "" if each.is_whole else "files are gone",
        )
        for each in found
    ]
    return table(["snapshot", "when (UTC)", "after", "images", "size", ""], rows, right=(0, 3, 4))


def _moment(when: str) -> str:
    return one_line(when.removesuffix("+00:00").replace("T", " ")) or "-"
