"""What rankers are called on the page."""

from ui.page.ranker_names import MODELS_OWN, in_use, label_of


def test_labels():
    assert [label_of(name) for name in ("ann", "default", "/models/mine/ranker")] == ["ann", MODELS_OWN, MODELS_OWN]


def test_the_one_in_use():
    assert in_use(["ann", "default"], None) == in_use(["ann", "default"], "gone") == MODELS_OWN
    assert in_use(["ann", "default"], "ann") == "ann" and in_use(["ann"], None) == "none"
    assert in_use(["ann", "/models/mine/ranker"], "default") == MODELS_OWN
