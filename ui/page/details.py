"""One picture, larger: itself, where the model looks in it, what of it matches the query, and its columns."""

from typing import TYPE_CHECKING

import streamlit as st

from indexer.catalog import PLACES
from retrieval.errors import SpyglassError
from ui.page.query_state import QueryState, image_ref
from ui.page.workbench import Workbench

if TYPE_CHECKING:
    from indexer import Hit

_PICTURE, _ATTENTION, _MATCH = "Picture", "Where the model looks", "What matches the query"


@st.dialog("Details", width="medium")
def show(workbench: Workbench, state: QueryState, image_id: str, hit: "Hit | None") -> None:
    """Open a dialog with a picture of the index, which is a hit of the query or none."""
    can_match = hit is not None and len(state.like) == 1
    options = [_PICTURE, _ATTENTION, *([_MATCH] if can_match else [])]
    chosen = st.segmented_control("Show", options, default=_PICTURE, required=True, label_visibility="collapsed")
    try:
        if chosen == _MATCH:
            with st.spinner("Comparing the two pictures place by place …"):
                st.image(workbench.match(state, hit), width="stretch")
            st.caption(
                "The places of both pictures that the ranker compares most; the wider a line, the more it counts."
            )
        else:
            picture = workbench.pictures.large if chosen == _PICTURE else workbench.attention
            st.image(picture(image_ref(image_id)), width="stretch" if chosen == _ATTENTION else "content")
            if chosen == _ATTENTION:
                st.caption("Bright is where the numbers of the picture come from.")
        st.subheader(workbench.pictures.name(image_ref(image_id)), anchor=False)
        st.dataframe(_facts(workbench, image_id, hit), hide_index=True, width="stretch")
    except SpyglassError as error:
        st.warning(str(error), icon=":material/error:")


def _facts(workbench: Workbench, image_id: str, hit: "Hit | None") -> list[dict[str, str]]:
    """A hit's figures, and what the catalog says of the image."""
    row = workbench.pictures.row(image_id)
    hidden = () if workbench.may_change else PLACES  # where it lies is nobody's business on another machine
    figures = {}
    if hit is not None:
        figures = {"rank": hit.rank, "score": f"{hit.score:.4f}", "similarity": f"{hit.similarity:.4f}"}
        if hit.similarity_rank is not None:
            figures["rank by similarity"] = hit.similarity_rank
    known = figures | {name: value for name, value in row.items() if value is not None and name not in hidden}
    return [{"what": name, "value": str(value)} for name, value in known.items()]
