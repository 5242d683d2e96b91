"""The commands `export` and `import`: an index as one Parquet file, and the way back."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ui.opening import open_index
from ui.options import AsJson, IndexFolder, OfSnapshot
from ui.printing import size, to_json


def export(
    index: IndexFolder,
    out: Annotated[Path, typer.Option("--out", metavar="FILE.parquet", help="The file to write.", show_default=False)],
    tokens: Annotated[bool, typer.Option(help="Write the local tokens that re-ranking compares, too.")] = True,
    snapshot: OfSnapshot = None,
    as_json: AsJson = False,
) -> None:
    """Write ids, metadata, dims and vectors of an index to one Parquet file, for other tools and for `import`.

    A vector is a list of as many numbers as its bucket is wide. The metadata of the file tell the model's name and
    fingerprint.

    \b
    Examples:
      spyglass export --index photos.index --out photos.parquet
      spyglass export --index photos.index --out before.parquet --snapshot 12 --no-tokens
    """
    num_rows = open_index(index, snapshot=snapshot).export(out, tokens=tokens)
    size_bytes = out.stat().st_size
    if as_json:
        typer.echo(to_json({"images": num_rows, "file": str(out), "size_bytes": size_bytes}))
    else:
        typer.echo(f"{out}: {num_rows} images, {size(size_bytes)}")


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `export` wrote.", show_default=False)],
    index: IndexFolder,
    as_json: AsJson = False,
) -> None:
    """Add what another index was exported to, without a model; the index is made if there is none.

    An id that the index has already is replaced if its picture is another one, and left as it is if not. Exits with 4
    if the index was made by another model than the file.

    \b
    Examples:
      spyglass import photos.parquet --index copy.index
    """
    from indexer.changes.importing import import_file

    report = import_file(file, index)
    if as_json:
        typer.echo(to_json(asdict(report)))
    else:
        typer.echo(f"{index}: {report.added} added, {report.updated} updated, {report.unchanged} unchanged")
