"""The charts of the corpus page: two histograms, and the map whose points show their picture."""

from typing import TYPE_CHECKING

import altair as alt

from ui.page.picture_routes import picture_url
from ui.page.query_state import image_ref

if TYPE_CHECKING:
    import pandas as pd

    from indexer.overview import Histogram

MOST_COLOURS = 12
_HEIGHT = 260


def dims(histogram: "Histogram") -> alt.Chart:
    """How many pictures take how many numbers."""
    return _bars(histogram, "numbers that a picture takes, of 512", format=".0f")


def complexity(histogram: "Histogram") -> alt.Chart:
    """How many pictures are how crowded, as far as the size of their files tells."""
    return _bars(histogram, "bytes a pixel: how crowded a picture is", format=".2f")


def embedding_map(places: "pd.DataFrame", version: int, colours: str) -> alt.Chart:
    """The places of pictures, coloured by their "label" or "dim"; pointing at one shows it, clicking selects it."""
    shown = places[["id", "label", "dim", "x", "y"]].copy()
    shown["image"] = [picture_url("tile", image_ref(image_id), version) for image_id in shown["id"]]
    colour = alt.Color("label:N", title="label") if colours == "label" else alt.Color("dim:Q", title="numbers")
    plain = alt.Axis(labels=False, ticks=False, title=None, grid=False, domain=False)
    picture = alt.selection_point(name="picture", fields=["id"], on="click")
    return (
        alt.Chart(shown)
        .mark_circle(size=55, opacity=0.75)
        .encode(
            x=alt.X("x:Q", axis=plain, scale=alt.Scale(zero=False)),
            y=alt.Y("y:Q", axis=plain, scale=alt.Scale(zero=False)),
            color=colour,
            tooltip=[alt.Tooltip("image:N"), alt.Tooltip("id:N"), alt.Tooltip("label:N"), alt.Tooltip("dim:Q")],
            opacity=alt.condition(picture, alt.value(0.9), alt.value(0.25)),
        )
        .add_params(picture)
        .properties(height=460)
    )


def _bars(histogram: "Histogram", title: str, *, format: str) -> alt.Chart:
    edges = histogram.edges.tolist()
    bars = [
        {"low": low, "high": high, "pictures": num}
        for low, high, num in zip(edges[:-1], edges[1:], histogram.counts.tolist(), strict=True)
    ]
    axis = alt.Axis(format=format, tickCount=10)
    return (
        alt.Chart(alt.Data(values=bars))
        .mark_bar()
        .encode(
            x=alt.X("low:Q", bin="binned", title=title, axis=axis),
            x2="high:Q",
            y=alt.Y("pictures:Q", title="pictures"),
            tooltip=[
                alt.Tooltip("low:Q", title="from", format=format),
                alt.Tooltip("high:Q", title="to", format=format),
                alt.Tooltip("pictures:Q"),
            ],
        )
        .properties(height=_HEIGHT)
    )
