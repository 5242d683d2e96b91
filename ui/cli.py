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
from retrieval.errors import DamagedError
from retrieval.freed_memory import keep_freed_memory
from ui.commands import (
    compacting,
    exporting,
    feedback,
    heads,
    indexing,
    learning,
    measuring,
    near_duplicates,
    ranker_training,
    reencoding,
    removing,
    searching,
    serving,
    showing,
    snapshots,
    tokens,
)
from ui.endings import FAILED, exit_code_of
from ui.opening import open_index
from ui.option_names import CommandLine
from ui.options import AsJson, IndexFolder, OfSnapshot
from ui.printing import shows_bars

app = CommandLine(
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
    from ui.commands import demo as show

    show.run(out, show_progress_bar=shows_bars())


app.command("index")(indexing.index)
app.command("search")(searching.search)
app.command("near-duplicates")(near_duplicates.near_duplicates)


@app.command()
def info(index: IndexFolder, snapshot: OfSnapshot = None, as_json: AsJson = False) -> None:
    """Say how many pictures an index holds, in which buckets, and what they take on disk.

    \b
    Examples:
      spyglass info --index photos.index
      spyglass info --index photos.index --json
      spyglass info --index photos.index --snapshot 12
    """
    from ui.reports import info_text, to_json

    facts = open_index(index, snapshot=snapshot).info()
    typer.echo(to_json(facts) if as_json else info_text(facts, index))


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
app.command("serve")(serving.serve)
app.command("tokens")(tokens.tokens)
app.command("reencode")(reencoding.reencode)
app.command("ui")(showing.ui)
app.command("remove")(removing.remove)
app.command("compact")(compacting.compact)
app.command("snapshots")(snapshots.snapshots)
app.command("restore")(snapshots.restore)
app.command("export")(exporting.export)
app.command("import")(exporting.import_)


def main() -> None:
    """The console entry point: run the command in `sys.argv`, and exit with its code."""
    # A file name that the terminal's encoding lacks is shown with escapes rather than stopping the command.
    sys.stdout.reconfigure(errors="backslashreplace")
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s: %(message)s")
    keep_freed_memory()
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line, such as `["info", "--index", "photos.index"]`, and return its exit code."""
    return exit_code_of(lambda: app(arguments, prog_name="spyglass", standalone_mode=False))


if __name__ == "__main__":
    main()
