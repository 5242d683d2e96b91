"""The command `spyglass`: what each command takes, and what it prints.

Results go to stdout; progress and everything else to stderr. Whatever is slow to import (torch, FAISS, Arrow) is
imported inside the command that needs it, so that `--help`, `info` and `verify` answer at once.
"""

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from retrieval import __version__
from retrieval.errors import DamagedError, SourceError
from ui import feedback, heads, learning, measuring, ranker_training, searching, tokens
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


app.command("search")(searching.search)


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
learning.train.command("ranker")(ranker_training.ranker)
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


if __name__ == "__main__":
    main()
