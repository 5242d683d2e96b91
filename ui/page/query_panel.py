"""The panel of the query: its pictures, the part that was drawn on one, and the way to give another."""

from collections.abc import Callable
from typing import Any

import streamlit as st

from retrieval.errors import ImageError
from ui.page.asset import asset, script
from ui.page.hit_grid import Event
from ui.page.picture_routes import picture_url
from ui.page.query_state import QueryState
from ui.page.workbench import Workbench

_panel = st.components.v2.component("spyglass_query_panel", js=script("query_panel.js"), css=asset("query_panel.css"))


def show(workbench: Workbench, state: QueryState, *, key: str, on_event: Callable[[Event], None]) -> None:
    """Draw it; actions are "only", "more", "less" and "remove" of a `ref`, and "crop" with a `crop` or None."""

    def handle() -> None:
        event = st.session_state[key].event
        if event is not None:
            on_event(event)

    version = workbench.view.index.version
    pictures = [_picture(workbench, ref, version, liked=True) for ref in state.like]
    pictures += [_picture(workbench, ref, version, liked=False) for ref in state.unlike]
    data = {"pictures": pictures, "stage": None, "adds": len(state.like) > 1}
    if len(state.like) == 1:
        data["stage"] = _stage(workbench, state, pictures[0], version)
    _panel(data=data, key=key, on_event_change=handle)


def _picture(workbench: Workbench, ref: str, version: int, *, liked: bool) -> dict[str, Any]:
    return {"ref": ref, "name": workbench.pictures.name(ref), "url": picture_url("tile", ref, version), "liked": liked}


def _stage(workbench: Workbench, state: QueryState, picture: dict[str, Any], version: int) -> dict[str, Any] | None:
    """The one picture, large enough to draw on; None where it cannot be read, which its chip then says."""
    ref = state.like[0]
    try:
        width, height = workbench.pictures.size(ref)
    except ImageError:
        return None
    url = picture_url("attention" if state.shows_attention else "large", ref, version)
    return {**picture, "url": url, "width": width, "height": height, "crop": state.crop and [*state.crop]}
