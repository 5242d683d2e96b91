"""The commands `spyglass feedback`: say what is relevant to a query, and bring or take away what was said."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ui.endings import SKIPPED
from ui.opening import open_index
from ui.option_names import CommandLine
from ui.options import AsJson, IndexFolder, OnError

if TYPE_CHECKING:
    import pandas as pd

    from indexer.judgments.judging import FeedbackReport

_MOST_FAILURES = 20

feedback = CommandLine(
    help="Keep what people say is relevant to a query, for a ranker to learn from.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

User = Annotated[str, typer.Option("--user", metavar="NAME", help="Whose judgment it is.  [default: nobody's]")]


@feedback.command()
def add(
    query: Annotated[
        str, typer.Argument(metavar="QUERY", help="An id of the index, or a picture.", show_default=False)
    ],
    image: Annotated[
        str, typer.Argument(metavar="IMAGE", help="An id of the index, or where it lies.", show_default=False)
    ],
    relevant: Annotated[
        bool,
        typer.Option("--relevant/--not-relevant", help="Whether the image is what was looked for.", show_default=False),
    ],
    index: IndexFolder,
    user: User = "",
) -> None:
    """Say that an image is, or is not, what was looked for; a later word on the same two supersedes it.

    Of a query that is no image of the index a small copy is kept, so that it can be learned from once it is gone.

    \b
    Examples:
      spyglass feedback add boats/17.jpg boats/4.jpg --relevant --index photos.index
      spyglass feedback add query.jpg boats/4.jpg --not-relevant --index photos.index --user ann
    """
    from ui.printing import one_line

    judgment = open_index(index).record_feedback(query, image, relevant, user=user)
    verdict = "relevant" if judgment.relevant else "not relevant"
    typer.echo(one_line(f"{index}: {judgment.image} is {verdict} to {judgment.query}"))


@feedback.command("import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .csv, .jsonl or .parquet.", show_default=False)],
    index: IndexFolder,
    on_error: Annotated[
        OnError, typer.Option("--on-error", help="Import nothing if a row is bad, or skip such rows.")
    ] = OnError.stop,
    as_json: AsJson = False,
) -> None:
    """Add judgments from a file with columns query, image, relevant, and perhaps when and user.

    relevant is true, false, 1, 0, yes or no; when is ISO 8601, in UTC unless it says otherwise, and now where it is
    left out. Importing what is there already adds nothing. Exits with 3 if rows were skipped.

    \b
    Examples:
      spyglass feedback import clicks.csv --index photos.index
      spyglass feedback import clicks.jsonl --index photos.index --on-error skip --json
    """
    from indexer.judgments import feedback_files
    from ui.printing import to_json

    feedback_files.check_path(file)
    report = open_index(index).record_feedback_rows(feedback_files.read(file), on_error=on_error.value)
    typer.echo(to_json(asdict(report)) if as_json else _imported_text(report, index))
    if report.skipped:
        raise typer.Exit(SKIPPED)


@feedback.command()
def export(
    index: IndexFolder,
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="A .csv, .jsonl or .parquet to write.", show_default=False)
    ],
) -> None:
    """Write all judgments to a file that `feedback import` takes, superseded ones too.

    The copies of query pictures go into .parquet alone; .csv and .jsonl leave them out, so that another index can
    take such a query only while its picture is still where it was.

    \b
    Examples:
      spyglass feedback export --index photos.index --out feedback.parquet
      spyglass feedback export --index photos.index --out feedback.csv
    """
    from indexer.judgments import feedback_files
    from ui.printing import counted

    feedback_files.check_path(out)
    judgments = open_index(index).feedback(superseded=True)
    feedback_files.write(out, judgments)
    typer.echo(f"{out}: {counted(len(judgments), 'judgment', 'judgments')}")


@feedback.command("list")
def list_(
    index: IndexFolder,
    user: Annotated[
        str | None, typer.Option("--user", metavar="NAME", help="Only judgments of this one.  [default: all]")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the judgments that stand, oldest first, and how many there are.

    \b
    Examples:
      spyglass feedback list --index photos.index
      spyglass feedback list --index photos.index --user ann --json
    """
    from indexer.feedback import latest
    from ui.printing import to_json

    said = open_index(index).feedback(user, superseded=True)
    judgments = latest(said)
    num_relevant = int(judgments["relevant"].sum())
    counts = {
        "judgments": len(judgments),
        "relevant": num_relevant,
        "not_relevant": len(judgments) - num_relevant,
        "superseded": len(said) - len(judgments),
        "queries": judgments["query"].nunique(),
        "users": judgments["user"].nunique(),
    }
    shown = judgments[["when", "user", "query", "image", "relevant"]]
    if as_json:
        typer.echo(to_json({"counts": counts, "judgments": shown.to_dict("records")}))
    else:
        typer.echo(_listed_text(shown, counts))


def _imported_text(report: "FeedbackReport", index: Path) -> str:
    from ui.printing import one_line, table

    lines = [f"{index}: {report.added} added, {report.unchanged} unchanged, {report.skipped} skipped"]
    failures = report.failures[:_MOST_FAILURES]
    if failures:
        cells = [(str(failure["row"]), one_line(failure["reason"])) for failure in failures]
        lines += ["", table(["row", "skipped because"], cells, right=[0])]
    if len(report.failures) > len(failures):
        lines.append(f"... and {len(report.failures) - len(failures)} more; --json names them all")
    return "\n".join(lines)


def _listed_text(shown: "pd.DataFrame", counts: dict[str, int]) -> str:
    from ui.printing import counted, one_line, shorten, table

    judgments = counted(counts["judgments"], "judgment", "judgments")
    queries, users = counted(counts["queries"], "query", "queries"), counted(counts["users"], "user", "users")
    summary = (
        f"{judgments}: {counts['relevant']} relevant, {counts['not_relevant']} not; "
        f"{queries}, {users}; {counts['superseded']} superseded"
    )
    if shown.empty:
        return summary
    cells = [
        (
            f"{row.when[:10]} {row.when[11:19]}",
            shorten(one_line(row.user), 20),
            shorten(one_line(row.query), 40),
            shorten(one_line(row.image), 40),
            "yes" if row.relevant else "no",
        )
        for row in shown.itertuples()
    ]
    return f"{table(['when (UTC)', 'user', 'query', 'image', 'relevant'], cells)}\n\n{summary}"
