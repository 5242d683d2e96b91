"""The command `spyglass`: what each command takes, and what it prints.

Results go to stdout; progress and everything else to stderr. Whatever is slow to import (torch, FAISS, Arrow) is
imported inside the command that needs it, so that `--help`, `info` and `verify` answer at once.
"""

import logging
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from retrieval import __version__
from retrieval.errors import DamagedError, SourceError, UsageError
from ui import feedback, heads, learning, measuring, tokens
from ui.endings import FAILED, SKIPPED, exit_code_of
from ui.opening import open_index, open_or_create
from ui.options import AsJson, Device, IndexFolder, OnDevice, OnError
from ui.printing import shows_bars

app = typer.Typer(
    name="spyglass",
    help="Image search that looks only as closely as each picture needs.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


@app.callback(invoke_without_command=True)
def spyglass(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    if version:
        typer.echo(f"spyglass {__version__}")
        raise typer.Exit()
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where everything is written.")] = Path(
        "spyglass-demo"
    ),
) -> None:
    """Make sample pictures, index them, search them, and draw a contact sheet.

    \b
    Examples:
      spyglass demo
      spyglass demo --out /tmp/demo
    """
    from ui import demo as show

    show.run(out, show_progress_bar=shows_bars())


@app.command()
def index(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE", help="Folders, image files, .parquet, .csv or .tar.", show_default=False),
    ],
    index: IndexFolder,
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
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers", min=0, help="Processes that decode pictures; 0: none but this.  [default: one a CPU]"
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Pictures encoded at once.")] = 64,
    device: OnDevice = Device.auto,
    index_type: Annotated[
        str | None,
        typer.Option(
            "--index-type",
            metavar="auto|FAISS-FACTORY",
            help="How a new index searches its buckets, such as HNSW32.  [default: auto, an exact scan]",
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
    as_json: AsJson = False,
) -> None:
    """Add pictures to an index; make it first if there is none.

    Running it again adds what is new, updates what changed and keeps the rest untouched. An interrupted run is taken
    up where it was by the same command. Exits with 3 if some pictures were skipped.

    \b
    Examples:
      spyglass index photos/ --index photos.index
      spyglass index photos/ more/cat.jpg --index photos.index --label-from parent --exclude-dir thumbnails
      spyglass index products.parquet --index products.index --label-from category --json
    """
    from ui import reports

    for source in sources:
        # Seen to before an index is made, so that a typing error leaves nothing behind.
        if not Path(source).exists():
            raise SourceError(f"expected a folder or file to index, found nothing at {source}; check the path")
    target = open_or_create(index, model, device, index_type=index_type, token_bytes=token_bytes)
    report = target.add(
        *sources,
        label_from=label_from,
        exclude_dirs=tuple(exclude_dir or ()),
        num_workers=workers,
        batch_size=batch_size,
        on_error=on_error.value,
        show_progress_bar=shows_bars(),
    )
    typer.echo(reports.added_json(report) if as_json else reports.added_text(report, index))
    if report.skipped:
        raise typer.Exit(SKIPPED)


@app.command()
def search(
    queries: Annotated[
        list[str],
        typer.Argument(metavar="QUERY", help="A picture; several are combined into one query.", show_default=False),
    ],
    index: IndexFolder,
    top_k: Annotated[int, typer.Option("-k", "--top-k", min=1, help="How many hits.")] = 10,
    subtract: Annotated[
        list[str] | None,
        typer.Option("--subtract", metavar="IMG", help="Look for less of this picture; may be repeated."),
    ] = None,
    crop: Annotated[
        str | None, typer.Option("--crop", metavar="X,Y,W,H", help="Use this part of the query, in pixels, alone.")
    ] = None,
    where: Annotated[
        str | None, typer.Option("--where", metavar="SQL", help="Only pictures whose columns meet this condition.")
    ] = None,
    min_score: Annotated[float | None, typer.Option("--min-score", help="Only hits with at least this score.")] = None,
    sheet: Annotated[
        Path | None, typer.Option("--sheet", metavar="OUT.png", help="Draw query and hits as a contact sheet.")
    ] = None,
    device: OnDevice = Device.auto,
    as_json: AsJson = False,
    paths_only: Annotated[
        bool, typer.Option("--paths-only", help="Print where the hits lie and nothing else.")
    ] = False,
) -> None:
    """Find the pictures of an index that look like the query, best first.

    \b
    Examples:
      spyglass search query.jpg --index photos.index
      spyglass search query.jpg --index photos.index -k 5 --where "label = 'beach' AND width > 1000"
      spyglass search day.jpg --index photos.index --subtract night.jpg --crop 0,0,400,300 --sheet hits.png
    """
    from ui import reports

    if as_json and paths_only:
        raise UsageError("expected --json or --paths-only, got both; choose one")
    region = None if crop is None else _region(crop)
    if sheet is not None:
        from ui import hit_sheet

        hit_sheet.check_path(sheet)
    query = queries[0] if len(queries) == 1 else queries
    target = open_index(index, device)
    embedder = target.embedder  # loaded here, so that the time told is that of the search
    started = time.perf_counter()
    hits = target.search(
        query, top_k=top_k, subtract=tuple(subtract or ()), crop=region, where=where, min_score=min_score
    )
    took_ms = (time.perf_counter() - started) * 1000
    if sheet is not None:
        hit_sheet.save(sheet, queries, hits, embedder, crop=region)
    if paths_only:
        for hit in hits:
            typer.echo(reports.path_bytes(hit))
    else:
        typer.echo(reports.hits_json(query, took_ms, hits) if as_json else reports.hits_text(hits))


@app.command()
def info(index: IndexFolder, as_json: AsJson = False) -> None:
    """Say how many pictures an index holds, in which buckets, and what they take on disk.

    \b
    Examples:
      spyglass info --index photos.index
      spyglass info --index photos.index --json
    """
    from ui.reports import info_text, to_json

    facts = open_index(index).info()
    typer.echo(to_json(facts) if as_json else info_text(facts))


@app.command()
def verify(index: IndexFolder, as_json: AsJson = False) -> None:
    """Check every file of an index against what was written; exit with 1 and name the files that differ.

    \b
    Examples:
      spyglass verify --index photos.index
    """
    from ui.reports import to_json, verify_text

    try:
        problems = open_index(index).verify()
    except DamagedError as error:  # a manifest that cannot be read is a finding too
        problems = [str(error)]
    if as_json:
        typer.echo(to_json({"sound": not problems, "problems": problems}))
    else:
        typer.echo(verify_text(problems, index))
    if problems:
        raise typer.Exit(FAILED)


learning.train.command("head")(heads.head)
app.add_typer(learning.train, name="train")
app.command("evaluate")(measuring.evaluate)
app.add_typer(feedback.feedback, name="feedback")
app.command("tokens")(tokens.tokens)


def main() -> None:
    """The console entry point: run the command in `sys.argv`, and exit with its code."""
    # A file name that the terminal's encoding lacks is shown with escapes rather than stopping the command.
    sys.stdout.reconfigure(errors="backslashreplace")
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s: %(message)s")
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line, such as `["info", "--index", "photos.index"]`, and return its exit code."""
    return exit_code_of(lambda: app(arguments, prog_name="spyglass", standalone_mode=False))


def _region(text: str) -> tuple[int, int, int, int]:
    parts = text.split(",")
    if len(parts) == 4 and all(part.strip().isascii() and part.strip().isdigit() for part in parts):
        left, top, width, height = map(int, parts)
        if width > 0 and height > 0:
            return left, top, width, height
    raise UsageError(f"expected --crop X,Y,W,H in pixels, such as 10,20,300,200, got {text!r}")


if __name__ == "__main__":
    main()
