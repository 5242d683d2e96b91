"""The search page: a query at the top, its hits below, and what they are chosen by at the side."""

from collections.abc import Sequence
from typing import Any

import streamlit as st

from retrieval.errors import SpyglassError
from ui.grouping_note import grouping_note
from ui.page import address, details, hit_grid, query_panel, search_options
from ui.page.hit_grid import Event
from ui.page.query_state import QueryState, image_of
from ui.page.workbench import Found, Workbench, current

_GRID, _PANEL = "hits", "query"
_DETAILS = "details_of"


def show() -> None:
    """Draw the page for what its address asks."""
    workbench = current()
    state = address.read()
    search_options.show(workbench.view, state)
    query_panel.show(workbench, state, key=_PANEL, on_event=_handle)
    if state.is_asked:
        _show_hits(workbench, state)
    else:
        _show_some(workbench, state)


def _show_hits(workbench: Workbench, state: QueryState) -> None:
    user = search_options.user()
    try:
        found = workbench.find(state, user=user)
        judged = workbench.judged(state, user=user)
    except SpyglassError as error:
        st.warning(str(error), icon=":material/error:")
        return
    version = workbench.view.index.version
    _say(_summary(found, state))
    if note := grouping_note(found.hits, state.group_by):
        st.caption(f"{note[0].upper()}{note[1:]}.")
    cards = [hit_grid.hit_card(hit, state, judged, version) for hit in found.hits]
    hit_grid.show(cards, key=_GRID, on_event=_handle, actions=("more", "judge", "details"), page=state.page)
    _show_pager(state, found.has_more, key="hits")
    if ref := st.session_state.pop(_DETAILS, None):
        hit = next((hit for hit in found.hits if hit_grid.image_ref(hit.id) == ref), None)
        details.show(workbench, state, image_of(ref), hit)


def _show_some(workbench: Workbench, state: QueryState) -> None:
    """Pictures drawn at random: the page is never empty, and a click on one begins a search."""
    view = workbench.view
    try:
        rows = view.index.sample(
            state.num_hits + 1,
            where=search_options.where(view, state),
            seed=state.seed,
            offset=state.page * state.num_hits,
        )
    except SpyglassError as error:
        st.warning(str(error), icon=":material/error:")
        return
    if rows.empty:
        empty = "No picture passes these filters." if view.num_images else "This index holds no pictures yet."
        st.info(f"{empty} {'Take some away.' if view.num_images else 'Add a folder on the page Corpus.'}")
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        _say(f"Some of **{view.num_images:,}** pictures, drawn at random: click one to look for more like it.")
        st.button("Draw others", icon=":material/shuffle:", on_click=_shuffle, args=[state])
    cards = [
        hit_grid.image_card(row, view.index.version, shows_attention=state.shows_attention)
        for _, row in rows.head(state.num_hits).iterrows()
    ]
    hit_grid.show(cards, key=_GRID, on_event=_handle, actions=("more", "details"), page=state.page)
    _show_pager(state, len(rows) > state.num_hits, key="some")
    if ref := st.session_state.pop(_DETAILS, None):
        details.show(workbench, state, image_of(ref), None)


def _summary(found: Found, state: QueryState) -> str:
    if not found.hits:
        return "Nothing found: lower the minimum score, or take a filter away."
    first, last = found.hits[0].rank, found.hits[-1].rank
    parts = [f"Hits **{first}–{last}**", f"{found.took_ms:.0f} ms"]
    if found.hits[0].similarity_rank is not None:
        parts.insert(1, "re-ranked")
    return " · ".join(parts)


def _say(text: str) -> None:
    st.markdown(text, width="stretch")


def _show_pager(state: QueryState, has_more: bool, *, key: str) -> None:
    if state.page == 0 and not has_more:
        return
    with st.container(horizontal=True, horizontal_alignment="center", vertical_alignment="center"):
        st.button(
            "Previous",
            icon=":material/chevron_left:",
            key=f"previous_{key}",
            disabled=state.page == 0,
            on_click=address.write,
            args=[state.turn_to(state.page - 1)],
        )
        st.markdown(f"Page {state.page + 1}", width="content")
        st.button(
            "Next",
            icon=":material/chevron_right:",
            icon_position="right",
            key=f"next_{key}",
            disabled=not has_more,
            on_click=address.write,
            args=[state.turn_to(state.page + 1)],
        )


def _shuffle(state: QueryState) -> None:
    address.write(state.change(seed=state.seed + 1))


def _handle(event: Event) -> None:
    """What a visitor did with a picture, of the query or of the hits."""
    state, action, ref = address.read(), event["action"], event.get("ref", "")
    if action == "crop":
        address.write(state.change(crop=_crop(event.get("crop"))))
    elif action == "details":
        st.session_state[_DETAILS] = ref
    elif action in ("relevant", "irrelevant"):
        _judge(state, ref, action == "relevant")
    else:
        changes = {
            "only": state.only,
            "more": state.more_like,
            "less": state.less_like,
            "remove": state.without,
        }
        address.write(changes[action](ref))


def _judge(state: QueryState, ref: str, relevant: bool) -> None:
    try:
        current().judge(state, image_of(ref), relevant, user=search_options.user())
    except SpyglassError as error:
        st.toast(str(error), icon=":material/error:")
    else:
        st.toast(
            "Kept: what was looked for." if relevant else "Kept: not what was looked for.", icon=":material/check:"
        )


def _crop(numbers: Sequence[Any] | None) -> tuple[int, int, int, int] | None:
    return None if numbers is None else tuple(int(number) for number in numbers)
