"""The command `spyglass search`."""

import time
from pathlib import Path
from typing import Annotated

import typer

from retrieval.errors import UsageError
from ui import model_folder
from ui.endings import SKIPPED
from ui.opening import open_index
from ui.options import AsJson, Device, IndexFolder, OfSnapshot, OnDevice


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
    min_score: Annotated[
        float | None,
        typer.Option("--min-score", help="Only hits whose score, before any re-ranking, is at least this."),
    ] = None,
    rerank: Annotated[
        int | None,
        typer.Option(
            "--rerank",
            metavar="N",
            min=0,
            help="Let a ranker order this many of the most similar.  [default: 100 if there are tokens and a ranker]",
        ),
    ] = None,
    no_rerank: Annotated[bool, typer.Option("--no-rerank", help="Order by similarity alone.")] = False,
    ranker: Annotated[
        str | None,
        typer.Option(
            "--ranker", metavar="NAME|DIR", help="One of the index's own, or a folder.  [default: the model's own]"
        ),
    ] = None,
    expand: Annotated[
        int, typer.Option("--expand", metavar="N", min=0, help="Search again with the N best hits joined to the query.")
    ] = 0,
    user: Annotated[
        str, typer.Option("--user", metavar="NAME", help="Whose feedback a ranker reads that was trained on some.")
    ] = "",
    sheet: Annotated[
        Path | None, typer.Option("--sheet", metavar="OUT.png", help="Draw query and hits as a contact sheet.")
    ] = None,
    explain: Annotated[
        Path | None,
        typer.Option("--explain", metavar="DIR", help="Draw which places of each hit the ranker matched, and keep it."),
    ] = None,
    snapshot: OfSnapshot = None,
    device: OnDevice = Device.auto,
    as_json: AsJson = False,
    paths_only: Annotated[
        bool, typer.Option("--paths-only", help="Print where the hits lie and nothing else.")
    ] = False,
) -> None:
    """Find the pictures of an index that look like the query, best first.

    Where the index has local tokens and there is a ranker for its model, the ranker orders the most similar ones: their
    scores then compare the hits of this query alone. With --explain, exits with 3 if the picture of a hit is gone.

    \b
    Examples:
      spyglass search query.jpg --index photos.index
      spyglass search query.jpg --index photos.index -k 5 --where "label = 'beach' AND width > 1000"
      spyglass search day.jpg --index photos.index --subtract night.jpg --crop 0,0,400,300 --sheet hits.png
      spyglass search query.jpg --index photos.index --rerank 200 --expand 3 --explain why/
    """
    from ui import reports

    _refuse_contradictions(queries, rerank, no_rerank, ranker, explain, as_json, paths_only)
    region = None if crop is None else _region(crop)
    if sheet is not None:
        from ui import hit_sheet

        hit_sheet.check_path(sheet)
    if explain is not None:
        model_folder.check(explain, "--explain")
    query = queries[0] if len(queries) == 1 else queries
    target = open_index(index, device, snapshot=snapshot)
    embedder = target.embedder  # loaded here, so that the time told is that of the search
    if explain is not None and rerank is None:
        from indexer.search_config import RERANK

        rerank = RERANK  # asked for: where it cannot be had, the search says why
    started = time.perf_counter()
    hits = target.search(
        query,
        top_k=top_k,
        subtract=tuple(subtract or ()),
        crop=region,
        where=where,
        min_score=min_score,
        rerank=0 if no_rerank else rerank,
        ranker=ranker,
        expand=expand,
        user=user,
    )
    took_ms = (time.perf_counter() - started) * 1000
    if sheet is not None:
        hit_sheet.save(sheet, queries, hits, embedder, crop=region)
    num_gone = 0
    if explain is not None:
        from ui import match_overlay

        num_gone = match_overlay.save_all(explain, target, queries[0], hits, ranker=ranker, crop=region)
    if paths_only:
        for hit in hits:
            typer.echo(reports.path_bytes(hit))
    else:
        typer.echo(reports.hits_json(query, took_ms, hits) if as_json else reports.hits_text(hits))
    if num_gone:
        raise typer.Exit(SKIPPED)


def _refuse_contradictions(
    queries: list[str],
    rerank: int | None,
    no_rerank: bool,
    ranker: str | None,
    explain: Path | None,
    as_json: bool,
    paths_only: bool,
) -> None:
    if as_json and paths_only:
        raise UsageError("expected --json or --paths-only, got both; choose one")
    if no_rerank and rerank is not None:
        raise UsageError("expected --rerank or --no-rerank, got both; choose one")
    if no_rerank or rerank == 0:
        for option, value in (("--ranker", ranker), ("--explain", explain)):
            if value is not None:
                raise UsageError(f"expected {option} with re-ranking, got it without; leave one of the two out")
    if explain is not None and len(queries) > 1:
        raise UsageError(f"expected one query with --explain, got {len(queries)}; explain them one by one")


def _region(text: str) -> tuple[int, int, int, int]:
    parts = text.split(",")
    if len(parts) == 4 and all(part.strip().isascii() and part.strip().isdigit() for part in parts):
        left, top, width, height = map(int, parts)
        if width > 0 and height > 0:
            return left, top, width, height
    raise UsageError(f"expected --crop X,Y,W,H in pixels, such as 10,20,300,200, got {text!r}")
