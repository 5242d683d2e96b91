"""The cards of the grid: what they say, as JSON that a browser takes."""

import json

import pandas as pd
import pytest

pytest.importorskip("streamlit", reason="expected the packages for the page: pip install 'spyglass-image-search[ui]'")

from indexer import Hit  # noqa: E402
from ui.page.hit_grid import hit_card, image_card  # noqa: E402
from ui.page.query_state import QueryState  # noqa: E402


def hit(**changes) -> Hit:
    own = {
        "rank": 2,
        "id": "sub/a.jpg",
        "uri": "/p/sub/a.jpg",
        "score": -0.5,
        "similarity": 0.25,
        "dim": 64,
        "label": None,
    }
    return Hit(**{**own, "columns": {}, **changes})


def test_a_hit():
    card = hit_card(hit(), QueryState(like=("b.jpg",)), {}, version=3)
    assert (card["title"], card["file"], card["score"], card["similarity"]) == ("a.jpg", None, "-0.500", "0.250")
    assert card["url"] == "/pictures/tile?ref=sub%2Fa.jpg&v=3" and card["moved"] == 0 and not card["reranked"]


def test_a_hit_that_was_moved_and_judged():
    state = QueryState(like=("sub/a.jpg",), shows_attention=True)
    card = hit_card(
        hit(label="cat", similarity_rank=5, names=("b.jpg", "c.jpg")), state, {"sub/a.jpg": False}, version=3
    )
    assert (card["title"], card["file"], card["moved"], card["judged"]) == ("cat", "a.jpg", 3, False)
    assert card["badge"] == "liked" and "attention" in card["url"] and card["note"] == "also b.jpg and 1 more"


def test_a_row_of_a_catalog_without_labels_is_sound_json():
    catalog = pd.DataFrame({"id": ["@7"], "uri": ["/t.parquet#7"], "label": [float("nan")], "dim": [40]})
    card = image_card(catalog.iloc[0], 1)
    assert card["title"] == "@7" and card["ref"] == "@@7" and card["file"] is None
    json.dumps(card, allow_nan=False)
