"""What `spyglass search` takes, and how the texts of a command line become what a search is asked."""

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from retrieval.errors import UsageError

Queries = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="QUERY",
        help="A picture, or the id of one of the index; several are combined into one query.",
        show_default=False,
    ),
]
Batch = Annotated[
    str | None,
    typer.Option(
        "--batch",
        metavar="FILE",
        help="Search for each picture of a list: a .txt with a path or id a line (- is stdin), a .csv, .jsonl or "
        ".parquet with a column query or path. Prints a line of JSON for each.",
    ),
]
TopK = Annotated[int, typer.Option("-k", "--top-k", min=1, help="How many hits.")]
Offset = Annotated[int, typer.Option("--offset", metavar="N", min=0, help="Leave out the first N hits: the next page.")]
Weight = Annotated[
    list[float] | None,
    typer.Option(
        "--weight",
        metavar="W",
        help="How much a query's picture counts, once for each in their order; below 0 it counts against a hit.",
    ),
]
Subtract = Annotated[
    list[str] | None,
    typer.Option("--subtract", metavar="IMG", help="Look for less of this picture or id; may be repeated."),
]
Crop = Annotated[
    str | None, typer.Option("--crop", metavar="X,Y,W,H", help="Use this part of the query, in pixels, alone.")
]
Where = Annotated[
    str | None, typer.Option("--where", metavar="SQL", help="Only pictures whose columns meet this condition.")
]
MinScore = Annotated[
    float | None, typer.Option("--min-score", help="Only hits whose score, before any re-ranking, is at least this.")
]
GroupBy = Annotated[
    str | None,
    typer.Option("--group-by", metavar="COLUMN", help="Only the best hit of each value of a column, such as label."),
]
GroupSize = Annotated[int, typer.Option("--group-size", metavar="N", min=1, help="The best N with --group-by.")]
Diverse = Annotated[
    float | None,
    typer.Option(
        "--diverse",
        metavar="SHARE",
        min=0.0,
        max=1.0,
        help="Put the best 200 in an order that avoids repetition: 0 by relevance alone, 1 by difference alone.",
    ),
]
Rerank = Annotated[
    int | None,
    typer.Option(
        "--rerank",
        metavar="N",
        min=0,
        help="Let a ranker order this many of the most similar.  [default: 100 if there are tokens and a ranker]",
    ),
]
NoRerank = Annotated[bool, typer.Option("--no-rerank", help="Order by similarity alone.")]
RankerName = Annotated[
    str | None,
    typer.Option(
        "--ranker", metavar="NAME|DIR", help="One of the index's own, or a folder.  [default: the one in use]"
    ),
]
Expand = Annotated[
    int, typer.Option("--expand", metavar="N", min=0, help="Search again with the N best hits joined to the query.")
]
Metadata = Annotated[
    list[str] | None,
    typer.Option("--metadata", metavar="KEY=VALUE", help="A column of the query, for a ranker that reads it."),
]
User = Annotated[
    str, typer.Option("--user", metavar="NAME", help="Whose feedback a ranker reads that was trained on some.")
]
Sheet = Annotated[
    Path | None, typer.Option("--sheet", metavar="OUT.png", help="Draw query and hits as a contact sheet.")
]
Explain = Annotated[
    Path | None,
    typer.Option("--explain", metavar="DIR", help="Draw which places of each hit the ranker matched, and keep it."),
]
PathsOnly = Annotated[bool, typer.Option("--paths-only", help="Print where the hits lie and nothing else.")]


def region(text: str | None) -> tuple[int, int, int, int] | None:
    """X,Y,W,H as numbers; raises `UsageError`."""
    if text is None:
        return None
    parts = text.split(",")
    if len(parts) == 4 and all(part.strip().isascii() and part.strip().isdigit() for part in parts):
        left, top, width, height = map(int, parts)
        if width > 0 and height > 0:
            return left, top, width, height
    raise UsageError(f"expected --crop X,Y,W,H in pixels, such as 10,20,300,200, got {text!r}")


def columns(texts: list[str] | None) -> dict[str, Any]:
    """KEY=VALUE texts as columns, with values as numbers where they read like one; raises `UsageError`."""
    known = {}
    for text in texts or ():
        key, separator, value = text.partition("=")
        if not separator or not key:
            raise UsageError(f"expected --metadata KEY=VALUE, such as price=12.5, got {text!r}")
        known[key] = _number_or_text(value)
    return known


def _number_or_text(text: str) -> int | float | str:
    try:
        number = float(text) if {*".eE"} & {*text} else int(text)
    except ValueError:
        return text
    # A whole number that does not come out as it went in, such as 007, is a name.
    return number if math.isfinite(number) and (isinstance(number, float) or str(number) == text) else text
