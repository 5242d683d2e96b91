"""The contact sheet of one search, which says what was asked."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ui.pictures import hit_sheet

if TYPE_CHECKING:
    from indexer import Hit, Index
    from indexer.searching.query_pixels import Crop


def draw(
    path: Path,
    index: "Index",
    shown: str,
    queries: Sequence[str],
    hits: "Sequence[Hit]",
    *,
    crop: "Crop | None",
    asked: Mapping[str, Any],
) -> None:
    """Draw the hits of `queries`, as they were `asked`; `shown` is where the picture of the first of them lies."""
    hit_sheet.save(
        path,
        shown,
        hits,
        index.embedder,
        title=Path(queries[0]).name,
        detail=_others(queries),
        subtitle=sentence(queries, len(hits), crop, asked),
        crop=crop,
    )


def sentence(queries: Sequence[str], num_hits: int, crop: "Crop | None", asked: Mapping[str, Any]) -> str:
    """What the sheet shows: how many hits, and for what."""
    page = f" from {asked['offset'] + 1} on" if asked["offset"] else ""
    parts = [
        f"{num_hits} hits{page} for {' '.join(filter(None, (queries[0], _others(queries))))}",
        f"cut to {','.join(map(str, crop))}" if crop else "",
        f"less {', '.join(Path(name).name for name in asked['subtract'])}" if asked["subtract"] else "",
        f"where {asked['where']}" if asked["where"] else "",
        f"by {asked['group_by']}" if asked["group_by"] else "",
    ]
    return " · ".join(filter(None, parts))


def _others(queries: Sequence[str]) -> str:
    return f"and {len(queries) - 1} more" if len(queries) > 1 else ""
