"""The command `spyglass search`."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from retrieval.errors import UsageError
from ui import model_folder
from ui.commands import search_options as options
from ui.endings import SKIPPED
from ui.grouping_note import grouping_note
from ui.opening import open_index
from ui.options import AsJson, Device, IndexFolder, ModelPlace, OfSnapshot, OnDevice
from ui.printing import one_line, shows_bars

if TYPE_CHECKING:
    from indexer import Hit


def search(
    index: IndexFolder,
    queries: options.Queries = None,
    batch: options.Batch = None,
    top_k: options.TopK = 10,
    offset: options.Offset = 0,
    weight: options.Weight = None,
    subtract: options.Subtract = None,
    crop: options.Crop = None,
    where: options.Where = None,
    min_score: options.MinScore = None,
    group_by: options.GroupBy = None,
    group_size: options.GroupSize = 1,
    diverse: options.Diverse = None,
    rerank: options.Rerank = None,
    no_rerank: options.NoRerank = False,
    ranker: options.RankerName = None,
    expand: options.Expand = 0,
    metadata: options.Metadata = None,
    user: options.User = "",
    sheet: options.Sheet = None,
    explain: options.Explain = None,
    snapshot: OfSnapshot = None,
    model: ModelPlace = None,
    device: OnDevice = Device.auto,
    as_json: AsJson = False,
    paths_only: options.PathsOnly = False,
) -> None:
    """Find the pictures of an index that look like the query, best first.

    Where the index has local tokens and there is a ranker for its model, the ranker orders the most similar ones: their
    scores then compare the hits of this query alone. Exits with 3 if --explain finds the picture of a hit gone, or
    --batch has queries that cannot be read.

    \b
    Examples:
      spyglass search query.jpg --index photos.index
      spyglass search boats/17.jpg --index photos.index -k 20 --offset 20
      spyglass search query.jpg --index photos.index -k 5 --where "label = 'beach' AND width > 1000"
      spyglass search query.jpg --index photos.index --group-by label --diverse 0.3
      spyglass search day.jpg --index photos.index --subtract night.jpg --crop 0,0,400,300 --sheet hits.png
      spyglass search a.jpg b.jpg --weight 2 --weight 1 --index photos.index
      spyglass search query.jpg --index photos.index --rerank 200 --expand 3 --explain why/
      spyglass search --batch queries.txt --index photos.index > hits.jsonl
    """
    queries = queries or []
    region = options.region(crop)
    _refuse_contradictions(queries, batch, rerank, no_rerank, ranker, sheet, explain, as_json, paths_only)
    _refuse_what_is_of_one(queries, weight, region, explain)
    if sheet is not None:
        from ui.pictures import hit_sheet, search_sheet

        hit_sheet.check_path(sheet)
    if explain is not None:
        from ui.pictures import explanation_files

        model_folder.check(explain, "--explain")
        explanation_files.earlier(explain)
        if rerank is None:
            from indexer.searching.search_config import RERANK

            rerank = RERANK  # asked for: where it cannot be had, the search says why
    asked = {
        "top_k": top_k,
        "offset": offset,
        "weights": weight or None,
        "subtract": tuple(subtract or ()),
        "where": where,
        "min_score": min_score,
        "group_by": group_by,
        "group_size": group_size,
        "diverse": diverse,
        "rerank": 0 if no_rerank else rerank,
        "ranker": ranker,
        "expand": expand,
        "metadata": options.columns(metadata),
        "user": user,
    }
    listed = None
    if batch is not None:
        from ui.commands import query_list

        listed = query_list.read(batch)
    named = [*queries, *asked["subtract"]]
    if model is not None:  # which is loaded as the index is opened
        open_index(index, snapshot=snapshot).check_by_catalog(named, **asked)
    target = open_index(index, device, model=model, snapshot=snapshot)
    target.check_search(named, **asked)
    if listed is not None:
        from ui.commands import batch_search

        progress = {"show_progress_bar": shows_bars()}
        if batch_search.run(target, listed, typer.echo, crop=region, **progress, **asked):
            raise typer.Exit(SKIPPED)
        return
    target.embedder  # noqa: B018 - loaded here, so that the time told is that of the search
    started = time.perf_counter()
    query = queries[0] if len(queries) == 1 else queries
    hits = target.search(query, crop=region, **asked)
    took_ms = (time.perf_counter() - started) * 1000
    shown = target.uri_of(queries[0]) if sheet is not None or explain is not None else ""
    if sheet is not None:
        search_sheet.draw(sheet, target, shown, queries, hits, crop=region, asked=asked)
    num_gone = 0
    if explain is not None:
        from ui.pictures import match_overlay

        num_gone = match_overlay.save_all(explain, target, shown, hits, ranker=ranker, crop=region)
    _print(query, took_ms, hits, as_json, paths_only)
    if note := grouping_note(hits, group_by):
        typer.echo(one_line(note), err=True)
    if num_gone:
        raise typer.Exit(SKIPPED)


def _print(query: str | list[str], took_ms: float, hits: "list[Hit]", as_json: bool, paths_only: bool) -> None:
    from ui import reports

    if paths_only:
        for hit in hits:
            typer.echo(reports.path_bytes(hit))
    else:
        typer.echo(reports.hits_json(query, took_ms, hits) if as_json else reports.hits_text(hits))


def _refuse_contradictions(
    queries: list[str],
    batch: str | None,
    rerank: int | None,
    no_rerank: bool,
    ranker: str | None,
    sheet: Path | None,
    explain: Path | None,
    as_json: bool,
    paths_only: bool,
) -> None:
    if bool(queries) == (batch is not None):
        got = "both" if queries else "neither"
        raise UsageError(f"expected a QUERY or --batch, got {got}; name a picture, an id or a list of them")
    if batch is not None:
        for option, given in (("--sheet", sheet), ("--explain", explain), ("--paths-only", paths_only)):
            if given:
                raise UsageError(f"expected {option} with a QUERY, got it with --batch; leave one of the two out")
    if as_json and paths_only:
        raise UsageError("expected --json or --paths-only, got both; choose one")
    if no_rerank and rerank is not None:
        raise UsageError("expected --rerank or --no-rerank, got both; choose one")
    if no_rerank or rerank == 0:
        for option, value in (("--ranker", ranker), ("--explain", explain)):
            if value is not None:
                raise UsageError(f"expected {option} with re-ranking, got it without; leave one of the two out")


def _refuse_what_is_of_one(
    queries: list[str], weights: list[float] | None, crop: tuple[int, int, int, int] | None, explain: Path | None
) -> None:
    if weights and len(weights) != len(queries):
        raise UsageError(f"expected a --weight for each QUERY, got {len(weights)} for {len(queries)}; give one each")
    if explain is not None and len(queries) > 1:
        raise UsageError(f"expected one query with --explain, got {len(queries)}; explain them one by one")
    if crop is not None and len(queries) > 1:
        raise UsageError(f"expected one query with --crop, got {len(queries)}; leave one of the two out")
