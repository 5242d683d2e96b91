"""The side of the search page: how many hits, how they are ordered, and the filters that the catalog's columns give."""

from collections.abc import Callable, Mapping
from typing import Any

import streamlit as st

from ui.page import address, ranker_names
from ui.page.filters import SIZES, Choice, Range, allowed
from ui.page.query_state import NUM_HITS, QueryState
from ui.page.view import View

_USER = "judges_as"
_NUM_OPEN_FILTERS = 3


def show(view: View, state: QueryState) -> None:
    """Draw it into the sidebar."""
    with st.sidebar:
        st.button(
            "Start over", icon=":material/restart_alt:", on_click=address.write, args=[QueryState()], width="stretch"
        )
        _choose("Hits on a page", "num_hits", state.num_hits, st.segmented_control, options=NUM_HITS, required=True)
        _choose("Show where the model looks", "shows_attention", state.shows_attention, st.toggle)
        _show_order(view, state)
        _show_filters(view, state)
        _show_user()


def where(view: View, state: QueryState) -> dict[str, Any] | None:
    """The filter as the index takes it: the part of what the address asks that concerns its columns."""
    return allowed(view.filters, state.where) or None


def user() -> str:
    """Under whose name judgments are kept; "" for nobody's in particular."""
    return st.session_state.get(_USER, "").strip()


def _show_order(view: View, state: QueryState) -> None:
    st.markdown("**Order**")
    info = view.index.info()
    rankers = info["rankers"] if info["token_bytes"] else []
    if rankers:
        _choose(
            "Re-rank the most similar",
            "rerank",
            state.rerank,
            st.toggle,
            help="A ranker compares the pictures place by place. Arrows beside the hits show what it moved.",
        )
        if len(rankers) > 1 and state.rerank:
            in_use = ranker_names.in_use(rankers, view.index.ranker_in_use())
            _choose(
                "Ranker",
                "ranker",
                state.ranker if state.ranker in rankers else "",
                st.selectbox,
                options=["", *rankers],
                format_func=lambda name: ranker_names.label_of(name) if name else f"the one in use ({in_use})",
                convert=lambda name: name or None,
            )
    _choose(
        "Minimum score",
        "min_score",
        max(state.min_score or 0.0, 0.0),
        st.slider,
        min_value=0.0,
        max_value=1.0,
        step=0.05,
        convert=lambda least: least or None,
        help="Of the score by similarity alone, which hits have while re-ranking is off; 0 leaves out none.",
    )
    _choose(
        "Diversity",
        "diverse",
        state.diverse,
        st.slider,
        min_value=0.0,
        max_value=1.0,
        step=0.1,
        help="How much hits are to differ from those before them; 0 asks for likeness to the query alone.",
    )
    columns = [one.column for one in view.filters if isinstance(one, Choice)]
    if columns:
        _choose(
            "Only the best of each",
            "group_by",
            state.group_by if state.group_by in columns else "",
            st.selectbox,
            options=["", *columns],
            format_func=lambda name: name or "picture: no groups",
            convert=lambda name: name or None,
        )


def _show_filters(view: View, state: QueryState) -> None:
    if not view.filters:
        return
    chosen = allowed(view.filters, state.where)
    st.markdown("**Filters**")
    few = [one for one in view.filters if one.column not in SIZES][:_NUM_OPEN_FILTERS]
    more = [one for one in view.filters if one not in few]
    for one in few:
        _show_filter(one, chosen)
    if more:
        is_in_use = any(one.column in chosen for one in more)
        with st.expander("More filters", expanded=is_in_use, key="more_filters"):
            for one in more:
                _show_filter(one, chosen)


def _show_filter(one: Choice | Range, chosen: Mapping[str, Any]) -> None:
    key = f"filter_{one.column}"

    def change() -> None:
        state, value = address.read(), st.session_state[key]
        rules = {name: rule for name, rule in state.where.items() if name != one.column}
        rule = one.rule(value)
        address.write(state.change(where=rules if rule is None else {**rules, one.column: rule}))

    if isinstance(one, Choice):
        st.session_state[key] = one.chosen(chosen)
        st.multiselect(one.column, one.values, key=key, on_change=change, placeholder="any")
    else:
        st.session_state[key] = one.ends(chosen)
        step = 1 if one.is_whole else (one.high - one.low) / 100
        st.slider(one.column, one.low, one.high, step=step, key=key, on_change=change)


def _show_user() -> None:
    st.session_state.setdefault(_USER, "")
    # What is set anew in every run outlives a visit to another page.
    st.session_state[_USER] = st.session_state[_USER]
    st.markdown("**Thumbs up and down**")
    st.text_input("Kept under the name", key=_USER, placeholder="nobody in particular", max_chars=100)


def _choose(
    label: str,
    name: str,
    value: Any,
    widget: Callable[..., Any],
    *,
    convert: Callable[[Any], Any] = lambda value: value,
    **options: Any,
) -> None:
    """A widget whose value is a field of the query's state, by its `name`."""
    key = f"option_{name}"

    def change() -> None:
        address.write(address.read().change(**{name: convert(st.session_state[key])}))

    st.session_state[key] = value
    widget(label, key=key, on_change=change, **options)
