"""Two rankers, or a ranker and similarity alone, on the same queries side by side."""

import streamlit as st

from retrieval.errors import SpyglassError
from ui.page import address, hit_grid
from ui.page.hit_grid import Event
from ui.page.query_state import QueryState, image_ref
from ui.page.ranker_names import label_of
from ui.page.workbench import Workbench

_SIMILARITY = "similarity alone"
_NUM_QUERIES, _NUM_HITS = 3, 12
_NUM_SHOWN = 6


def show(workbench: Workbench) -> None:
    """Draw the comparison."""
    view = workbench.view
    rankers = view.index.info()["rankers"]
    if not rankers or not view.num_images:
        return
    st.header("Compare")
    choices = [_SIMILARITY, *rankers]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        one = st.selectbox("Left", choices, index=0, key="compare_left", format_func=label_of)
        other = st.selectbox("Right", choices, index=1, key="compare_right", format_func=label_of)
        st.session_state.setdefault("compare_seed", 0)
        st.button("Other queries", icon=":material/shuffle:", on_click=_draw_others)
    seed = st.session_state["compare_seed"]
    queries = view.index.sample(_NUM_QUERIES, seed=seed)["id"]
    for number, image_id in enumerate(queries):
        columns = st.columns(2, gap="medium")
        for place, (column, ranker) in enumerate(zip(columns, (one, other), strict=True)):
            with column:
                _show_hits(workbench, image_id, ranker, key=f"compare_{number}_{place}")


def _show_hits(workbench: Workbench, image_id: str, ranker: str, *, key: str) -> None:
    """What a query finds, the query itself first."""
    with_ranker = {"rerank": False} if ranker == _SIMILARITY else {"ranker": ranker}
    state = QueryState(like=(image_ref(image_id),), num_hits=_NUM_HITS, **with_ranker)
    try:
        found = workbench.find(state)
    except SpyglassError as error:
        st.warning(str(error), icon=":material/error:")
        return
    version = workbench.view.index.version
    cards = [hit_grid.hit_card(hit, state, {}, version) for hit in found.hits]
    st.caption(label_of(ranker))
    hit_grid.show(cards[:_NUM_SHOWN], key=key, on_event=_search_with, most_columns=3)


def _search_with(event: Event) -> None:
    address.search_next(QueryState(like=(event["ref"],)))


def _draw_others() -> None:
    st.session_state["compare_seed"] += 1
