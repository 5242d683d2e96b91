"""The grid of pictures, each with what is known of it and what can be done with it."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import streamlit as st

from ui.page.asset import asset, script
from ui.page.naming import name_of
from ui.page.picture_routes import picture_url
from ui.page.query_state import QueryState, image_ref
from ui.printing import plain, size
from ui.reports import MAX_DIM

if TYPE_CHECKING:
    import pandas as pd

    from indexer import Hit
    from indexer.searching.near_duplicates import NearDuplicate

Event = Mapping[str, Any]
"""What a visitor did: an `action` such as "only", "more", "less", "relevant" or "details", and with which `ref`."""

_grid = st.components.v2.component("spyglass_hit_grid", js=script("hit_grid.js"), css=asset("hit_grid.css"))


def show(
    cards: Sequence[Mapping[str, Any]],
    *,
    key: str,
    on_event: Callable[[Event], None],
    actions: Sequence[str] = (),
    page: int = 0,
    most_columns: int | None = None,
) -> None:
    """Draw the cards; `actions` are of "more" (with "less"), "judge" and "details".

    `most_columns`, 3 or 4, makes them small: there are never more beside each other.
    """

    def handle() -> None:
        event = st.session_state[key].event
        if event is not None:
            on_event(event)

    data = {"cards": plain(cards), "actions": [*actions], "max_dim": MAX_DIM, "page": page}
    data["most_columns"] = most_columns
    _grid(data=data, key=key, on_event_change=handle)


def hit_card(hit: "Hit", state: QueryState, judged: Mapping[str, bool], version: int) -> dict[str, Any]:
    """The card of a hit."""
    ref, name = image_ref(hit.id), name_of(hit.id, hit.uri)
    refs = {ref, *map(image_ref, hit.names)}
    moved = 0 if hit.similarity_rank is None else hit.similarity_rank - hit.rank
    return {
        **_picture(ref, hit.id, name, hit.label, version, shows_attention=state.shows_attention),
        "rank": hit.rank,
        "file": name if hit.label else None,
        "similarity": f"{hit.similarity:.3f}",
        "score": f"{hit.score:.3f}",
        "reranked": hit.similarity_rank is not None,
        "moved": moved,
        "was": hit.similarity_rank,
        "dim": hit.dim,
        "judged": judged.get(hit.id),
        "badge": "liked" if refs & {*state.like} else "disliked" if refs & {*state.unlike} else None,
        "note": _also(hit),
    }


def image_card(
    row: "pd.Series", version: int, *, note: str | None = None, shows_attention: bool = False
) -> dict[str, Any]:
    """The card of a row of the catalog, which answers no query."""
    name = name_of(row["id"], row["uri"])
    label = plain(row["label"])  # pandas' none is a number
    return {
        **_picture(image_ref(row["id"]), row["id"], name, label, version, shows_attention=shows_attention),
        "file": name if label else None,
        "dim": int(row["dim"]),
        "note": note,
    }


def near_duplicate_card(one: "NearDuplicate", version: int) -> dict[str, Any]:
    """The card of an image that another one is nearly the same as."""
    name = name_of(one.id, one.uri)
    return {
        **_picture(image_ref(one.id), one.id, name, one.label, version, shows_attention=False),
        "file": name if one.label else None,
        "note": f"similarity {one.similarity:.3f}, {one.width}×{one.height}, {size(one.num_bytes)}",
    }


def _picture(
    ref: str, image_id: str, name: str, label: str | None, version: int, *, shows_attention: bool
) -> dict[str, Any]:
    return {
        "ref": ref,
        "id": image_id,
        "name": f"{label}, {name}" if label else name,
        "title": label or name,
        "url": picture_url("attention" if shows_attention else "tile", ref, version),
        "hint": "Search with this picture",
    }


def _also(hit: "Hit") -> str | None:
    """A word on the other files that hold the very same picture."""
    if not hit.names:
        return None
    more = f" and {len(hit.names) - 1} more" if len(hit.names) > 1 else ""
    return f"also {PurePath(hit.names[0]).name}{more}"
