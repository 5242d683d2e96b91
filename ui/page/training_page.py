"""The training page: what there is to learn from, a ranker in training, two compared, and the one that is used."""

import re

import altair as alt
import streamlit as st

from indexer.judgments.ranker_folders import DEFAULT, NAME
from retrieval.errors import SpyglassError
from ui.page import comparison
from ui.page.ranker_names import MODELS_OWN, is_models_own
from ui.page.training import Training, TrainingOptions, curve
from ui.page.workbench import Workbench, current

_MODELS_OWN = ""
_LOSSES = {"loss": "training", "val_loss": "validation"}
_MEASURES = {"val_map_at_100": "mAP@100", "val_recall_at_1": "Recall@1"}


def show() -> None:
    """Draw the page."""
    workbench = current()
    _show_counts(workbench)
    left, right = st.columns([2, 3], gap="large")
    with left:
        st.header("Train a ranker")
        _show_form(workbench)
        st.header("The ranker in use")
        _show_choice(workbench)
    with right:
        st.header("The run")
        if workbench.training is None:
            st.caption("No ranker was trained since this page was started.")
        else:
            # Looked at again and again, but only while there is something to see.
            st.fragment(_show_run, run_every=1.0 if workbench.training.is_running else None)(workbench.training)
    comparison.show(workbench)


def _show_counts(workbench: Workbench) -> None:
    view = workbench.view
    try:
        judged = workbench.judgment_counts()
    except SpyglassError as error:
        st.warning(str(error), icon=":material/error:")
        return
    figures = {
        "pictures with a label": f"{sum(view.overview.labels.values()):,}",
        "labels": f"{len(view.overview.labels):,}",
        "thumbs up": f"{judged.num_relevant:,}",
        "thumbs down": f"{judged.num_irrelevant:,}",
        "queries judged": f"{judged.num_queries:,}",
    }
    with st.container(horizontal=True, gap="small"):
        for name, value in figures.items():
            st.metric(name, value, width="content", border=True)
    st.caption(
        "A ranker learns from queries with a thumb up and a thumb down, and from labelled pictures; "
        "every fifth query is kept to validate it."
    )


def _show_form(workbench: Workbench) -> None:
    if not workbench.may_change:
        st.caption("Only those who open this page on the machine where it runs may train.")
        return
    is_busy = workbench.training is not None and workbench.training.is_running
    with st.form("training", border=False):
        name = st.text_input(
            "Name", value="mine", help="Letters, digits, '-', '_' and '.'; one of that name is replaced."
        )
        data = st.text_input(
            "Labelled pictures to learn from as well",
            placeholder="/home/me/products.parquet, or a folder of folders",
            help="On the machine where this page runs; without them judgments alone teach.",
        )
        with st.expander("Settings"):
            epochs = st.number_input("Epochs, at most", 1, 200, 12)
            candidates = st.number_input("Candidates of each query", 2, 1000, 100)
            rate = st.number_input(
                "Learning rate",
                1e-5,
                10.0,
                None,
                format="%.5f",
                step=1e-3,
                placeholder="chosen for you",
                help="0.3 where what a trained ranker weighs is tuned, 0.003 where a fresh one learns.",
            )
        if st.form_submit_button("Start training", type="primary", icon=":material/play_arrow:", disabled=is_busy):
            if not re.fullmatch(NAME, name) or name == DEFAULT:
                st.warning(f"Expected a name of letters and digits, other than {DEFAULT!r}.", icon=":material/error:")
                return
            options = TrainingOptions(
                name=name, data=data.strip(), epochs=epochs, num_candidates=candidates, learning_rate=rate
            )
            try:
                workbench.train(options)
            except SpyglassError as error:
                st.warning(str(error), icon=":material/error:")
            else:
                st.rerun()


def _show_run(training: Training) -> None:
    """The run so far; when it ends, the whole page is drawn anew with its ranker."""
    rows = training.log
    if training.is_running:
        st.session_state["training_ran"] = True
        epochs = training.options.epochs
        done = max(0, len(rows) - 1)
        said = f"epoch {done} of at most {epochs}" if rows else "reading what it learns from"
        st.progress(min(1.0, done / epochs), text=f"{training.options.name}: {said}")
        st.button("Stop", icon=":material/stop:", on_click=training.stop, key="training_stop")
    elif st.session_state.pop("training_ran", False):
        st.rerun()
    elif training.was_stopped:
        st.info(f"{training.options.name}: stopped; the ranker of that name, if there was one, stays as it was.")
    elif training.problem is not None:
        st.warning(training.problem, icon=":material/error:")
    else:
        _show_report(training)
    if len(rows) > 1:
        losses, measures = st.columns(2)
        with losses:
            st.altair_chart(_lines(curve(rows, _LOSSES), "loss"), width="stretch", alt="Losses by epoch")
        with measures:
            points = curve(rows, _MEASURES)
            st.altair_chart(_lines(points, "of the validation, %"), width="stretch", alt="Measures by epoch")


def _show_report(training: Training) -> None:
    report = training.report
    steps = {"by similarity": "similarity", "before training": "before", "after training": "after"}
    rows = [
        {
            "": words,
            "mAP@100": report["validation"][name]["map_at_100"],
            "Recall@1": report["validation"][name]["recall_at_1"],
        }
        for words, name in steps.items()
    ]
    queries = report["queries"]
    st.success(
        f"{training.options.name}: trained on {queries['training']:,} queries, "
        f"validated on {queries['validation']:,}; kept epoch {report['kept_epoch']} of {report['epochs']}",
        icon=":material/check:",
    )
    columns = {name: st.column_config.NumberColumn(format="%.2f %%") for name in ("mAP@100", "Recall@1")}
    st.dataframe(rows, hide_index=True, column_config=columns, width="stretch")


def _lines(points: list[dict[str, float | str]], title: str) -> alt.Chart:
    return (
        alt.Chart(alt.Data(values=points))
        .mark_line(point=True)
        .encode(
            x=alt.X("epoch:Q", axis=alt.Axis(tickMinStep=1), title="epoch"),
            y=alt.Y("value:Q", scale=alt.Scale(zero=False), title=title),
            color=alt.Color("measure:N", legend=alt.Legend(orient="top", title=None)),
            tooltip=["epoch:Q", "measure:N", alt.Tooltip("value:Q", format=".4f")],
        )
        .properties(height=240)
    )


def _show_choice(workbench: Workbench) -> None:
    index = workbench.view.index
    rankers = index.info()["rankers"]
    if not rankers:
        st.caption("There is none yet: searches order by similarity alone.")
        return
    in_use = index.ranker_in_use()
    key = "ranker_in_use"

    def choose() -> None:
        try:
            index.use_ranker(st.session_state[key] or None)
        except SpyglassError as error:
            st.toast(str(error), icon=":material/error:")

    own = [name for name in rankers if not is_models_own(name)]
    st.session_state[key] = in_use if in_use in own else _MODELS_OWN
    st.radio(
        "Every search uses it that names no other",
        [_MODELS_OWN, *own],
        format_func=lambda name: name or ("none: by similarity alone" if len(own) == len(rankers) else MODELS_OWN),
        key=key,
        on_change=choose,
        disabled=not workbench.may_change,
    )
