"""The command `index`: add the pictures of some sources to an index, and keep up with what changes in them."""

from typing import Annotated

import typer

from retrieval.errors import UsageError
from ui.endings import SKIPPED
from ui.opening import open_or_create, refuse_missing
from ui.options import AsJson, BatchSize, Device, IndexFolder, OnDevice, OnError, Workers
from ui.printing import one_line, shows_bars

_OUTCOMES = ("added", "updated", "unchanged", "skipped", "renamed", "duplicates")


def index(
    index: IndexFolder,
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE", help="Folders, image files, .parquet, .csv or .tar; paths or URLs.", show_default=False
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", metavar="NAME|DIR", help="Weights: a name or a folder.  [default: the index's, or 'default']"
        ),
    ] = None,
    label_from: Annotated[
        str | None,
        typer.Option("--label-from", metavar="parent|COLUMN", help="Take labels from the parent folder or a column."),
    ] = None,
    exclude_dir: Annotated[
        list[str] | None,
        typer.Option("--exclude-dir", metavar="NAME", help="Leave out folders of this name; may be repeated."),
    ] = None,
    workers: Workers = None,
    batch_size: BatchSize = 64,
    device: OnDevice = Device.auto,
    index_type: Annotated[
        str | None,
        typer.Option(
            "--index-type",
            metavar="auto|FAISS-FACTORY",
            help="How a new index searches large buckets, such as HNSW32.  [default: auto, exact while small]",
        ),
    ] = None,
    token_bytes: Annotated[
        int | None,
        typer.Option(
            "--tokens",
            metavar="BYTES",
            help="How much of each picture's local tokens a new index keeps for reranking; 0: none.  [default: 1024]",
        ),
    ] = None,
    on_error: Annotated[
        OnError, typer.Option("--on-error", help="Skip pictures that cannot be read, or stop.")
    ] = OnError.skip,
    prune: Annotated[
        bool,
        typer.Option("--prune", help="Delete from the index what these sources once gave and do not give any more."),
    ] = False,
    prune_all: Annotated[
        bool, typer.Option("--prune-all", help="The same, even where most of a source, or all of it, is gone.")
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Instead of sources: what could not be read by earlier runs.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Add pictures to an index; make it first if there is none.

    Running it again adds what is new, updates what changed and keeps the rest untouched. A renamed file keeps its
    vector, and an exact duplicate is a further name of the same picture: neither is encoded again. An interrupted run
    is taken up where it was by the same command. Exits with 3 if some pictures were skipped.

    With --prune what has vanished from a source is deleted. A loss that looks like a disk which is not mounted is an
    error, and nothing of that source is deleted: no picture is left; or 100 or more are gone and no more than that are
    left, or the folders that they were in are empty. --prune-all deletes them all the same.

    \b
    Examples:
      spyglass index photos/ --index photos.index
      spyglass index photos/ more/cat.jpg --index photos.index --label-from parent --exclude-dir thumbnails
      spyglass index products.parquet --index products.index --label-from category --json
      spyglass index s3://bucket/photos https://host/more.csv --index photos.index
      spyglass index photos/ --index photos.index --prune
      spyglass index --retry-failed --index photos.index
    """
    from indexer import corpus
    from ui import reports

    sources = sources or []
    if bool(sources) == retry_failed:
        got = "both" if retry_failed else "neither"
        raise UsageError(f"expected sources or --retry-failed, got {got}; name a folder of pictures, for example")
    # Seen to before an index is made, so that a mistake leaves nothing behind.
    for source in sources:
        corpus.read(source, label_from=label_from, exclude_dirs=exclude_dir or ())
    if retry_failed:
        refuse_missing(index)
    target = open_or_create(index, model, device, index_type=index_type, token_bytes=token_bytes)
    report = target.add(
        *sources,
        label_from=label_from,
        exclude_dirs=tuple(exclude_dir or ()),
        num_workers=workers,
        batch_size=batch_size,
        on_error=on_error.value,
        prune="all" if prune_all else prune,
        retry_failed=retry_failed,
        show_progress_bar=shows_bars(),
    )
    typer.echo(reports.added_json(report) if as_json else reports.added_text(report, index))
    if not any(getattr(report, name) for name in _OUTCOMES):
        found = "no failures of earlier runs" if retry_failed else f"no pictures in {', '.join(map(one_line, sources))}"
        typer.echo(f"nothing to add: there are {found}", err=True)
    if report.skipped:
        raise typer.Exit(SKIPPED)
