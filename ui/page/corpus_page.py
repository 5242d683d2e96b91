"""The corpus page: what is indexed and what could not be, how crowded the pictures are, and where they lie."""

from pathlib import PurePath

import streamlit as st

from retrieval.errors import SpyglassError
from ui.page import address, corpus_charts, hit_grid
from ui.page.adding import Adding
from ui.page.hit_grid import Event, image_card, near_duplicate_card
from ui.page.query_state import QueryState
from ui.page.view import View
from ui.page.workbench import Workbench, current
from ui.printing import size

_NUM_BESIDE = 8
_MOST_FAILURES = 500
_MOST_GROUPS = 10
_LOOKS = "looks_for_near_duplicates"


def show() -> None:
    """Draw the page."""
    workbench = current()
    view = workbench.view
    _show_figures(view, workbench.may_change)
    _show_adding(workbench)
    if view.num_images:
        _show_crowdedness(view)
        _show_extremes(view)
        _show_map(view)
        _show_near_duplicates(view)
    _show_failures(view)


def _show_figures(view: View, may_change: bool) -> None:
    overview, info = view.overview, view.index.info()
    figures = {
        "pictures": f"{overview.num_images:,}",
        "mean numbers of a picture": "-" if overview.mean_dim is None else f"{overview.mean_dim:.0f} of 512",
        "picture files": size(overview.num_bytes),
        "index": size(info["size_bytes"]),
        "labels": f"{len(overview.labels):,}",
    }
    with st.container(horizontal=True, gap="small"):
        for name, value in figures.items():
            st.metric(name, value, width="content", border=True)
    formats = " · ".join(f"{num:,} {name}" for name, num in overview.formats.items())
    home = [str(view.index.path)] if may_change else []
    model = info["model"] if may_change else PurePath(info["model"]).name
    st.caption(" · ".join([*home, f"model {model}", *([formats] if formats else [])]))


def _show_adding(workbench: Workbench) -> None:
    if workbench.may_change:
        with st.expander("Add pictures", icon=":material/create_new_folder:", expanded=workbench.adding is not None):
            _adding_form(workbench)
            if workbench.adding is not None:
                # Looked at again and again, but only while there is something to see.
                st.fragment(_show_progress, run_every=0.7 if workbench.adding.is_running else None)(workbench.adding)


def _adding_form(workbench: Workbench) -> None:
    with st.form("adding", border=False):
        source = st.text_input(
            "A folder, an image file, a .parquet, .csv or .tar on the machine where this page runs",
            placeholder="/home/me/pictures",
            key="adding_source",
        )
        has_labels = st.checkbox("The folder that a picture is in is its label", key="adding_labels")
        is_busy = workbench.adding is not None and workbench.adding.is_running
        if st.form_submit_button("Add", type="primary", disabled=is_busy) and source.strip():
            try:
                workbench.add(source.strip(), label_from="parent" if has_labels else None)
            except SpyglassError as error:
                st.warning(str(error), icon=":material/error:")


def _show_progress(adding: Adding) -> None:
    """How far it is; when it ends, the whole page is drawn anew with what was added."""
    if adding.is_running:
        st.session_state["adding_ran"] = True
        progress = adding.progress
        done = f"{progress.num_done:,}" + (f" of {progress.num_images:,}" if progress.num_images else "")
        st.progress(progress.share, text=f"Adding {adding.source}: {done} pictures")
        st.button("Stop", icon=":material/stop:", on_click=adding.stop, key="adding_stop")
        return
    if st.session_state.pop("adding_ran", False):
        st.rerun()
    if adding.problem is not None:
        st.warning(adding.problem, icon=":material/error:")
    elif adding.report is not None:
        report = adding.report
        always = ("added", "updated", "unchanged", "skipped")
        names = [*always, *(name for name in ("renamed", "duplicates") if getattr(report, name))]
        counts = ", ".join(f"{getattr(report, name):,} {name}" for name in names)
        st.success(f"{adding.source}: {counts} in {report.seconds:.1f} s", icon=":material/check:")
    else:
        st.info(f"{adding.source}: stopped; what was read by then is in the index.", icon=":material/stop:")


def _show_crowdedness(view: View) -> None:
    st.header("How many numbers a picture takes, and how crowded it is")
    overview = view.overview
    dims, complexity = corpus_charts.dims(overview.dims), corpus_charts.complexity(overview.complexity)
    left, right = st.columns(2)
    with left:
        st.altair_chart(dims, width="stretch", alt="Histogram of the pictures' dimensions")
    with right:
        st.altair_chart(complexity, width="stretch", alt="Histogram of the pictures' bytes a pixel")


def _show_extremes(view: View) -> None:
    extremes = {"The plainest": view.overview.plainest, "The most crowded": view.overview.most_crowded}
    for column, (heading, rows) in zip(st.columns(2), extremes.items(), strict=True):
        with column:
            st.header(heading)
            cards = [
                image_card(row, view.index.version, note=f"{row['bytes_per_pixel']:.2f} bytes a pixel")
                for _, row in rows.iterrows()
            ]
            hit_grid.show(cards, key=f"extremes_{heading}", on_event=_search_with, most_columns=4)


def _show_map(view: View) -> None:
    st.header("Where the pictures lie")
    places = view.embedding_map
    if len(places) < 3:
        st.caption("Three pictures at least make a map.")
        return
    colours = "label" if 2 <= places["label"].nunique() <= corpus_charts.MOST_COLOURS else "dim"
    chosen = st.altair_chart(
        corpus_charts.embedding_map(places, view.index.version, colours),
        width="stretch",
        on_select="rerun",
        selection_mode="picture",
        key="map",
        alt="Map of the embeddings: pictures that are alike lie close together",
    )
    st.caption(
        f"{len(places):,} pictures where their embeddings differ most (two principal components); "
        "point at one to see it, click it to see it large."
    )
    picked = [point["id"] for point in chosen["selection"].get("picture", []) if "id" in point]
    if picked:
        rows = places[places["id"].isin(picked)]
        cards = [image_card(row, view.index.version) for _, row in rows.head(_NUM_BESIDE).iterrows()]
        hit_grid.show(cards, key="map_picked", on_event=_search_with, most_columns=4)


def _show_near_duplicates(view: View) -> None:
    st.header("Near-duplicates to review")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        threshold = st.slider("Least similarity", 0.80, 1.0, 0.95, 0.01, key="near_threshold")
        st.button("Look for them", icon=":material/content_copy:", on_click=_look_for_near_duplicates)
    if not st.session_state.get(_LOOKS):
        return
    with st.spinner("Comparing all pictures …"):
        groups = view.near_duplicates(threshold)
    if not groups:
        st.caption("None: no two pictures are that alike.")
        return
    num_images = sum(map(len, groups))
    shown = f"; the first {_MOST_GROUPS} are shown" if len(groups) > _MOST_GROUPS else ""
    st.caption(f"{num_images:,} pictures in {len(groups):,} groups; in each the one with the most pixels first{shown}.")
    version = view.index.version
    for number, group in enumerate(groups[:_MOST_GROUPS]):
        cards = [near_duplicate_card(one, version) for one in group[:_NUM_BESIDE]]
        hit_grid.show(cards, key=f"group_{number}", on_event=_search_with, most_columns=4)


def _look_for_near_duplicates() -> None:
    st.session_state[_LOOKS] = True


def _show_failures(view: View) -> None:
    st.header("What could not be read")
    try:
        failures = view.index.failures()
    except SpyglassError as error:
        st.warning(str(error), icon=":material/error:")
        return
    if not failures:
        st.caption("Nothing: every picture was read.")
        return
    num = "1 picture" if len(failures) == 1 else f"{len(failures):,} pictures"
    st.caption(f"Left out of the index: {num}.")
    st.dataframe(failures[:_MOST_FAILURES], hide_index=True, column_order=("id", "reason", "when"), width="stretch")


def _search_with(event: Event) -> None:
    address.search_next(QueryState(like=(event["ref"],)))
