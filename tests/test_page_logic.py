"""The pages' logic without a browser: what they draw, and that drawing again costs nothing."""

from pathlib import Path

import pytest
from toy import ToyEmbedder, write_coloured

import ui
from indexer import Index
from ui.page import workbench as workbenches
from ui.page.workbench import Workbench

pytest.importorskip("streamlit", reason="expected the packages for the page: pip install 'spyglass-image-search[ui]'")
from streamlit.testing.v1 import AppTest  # noqa: E402

APP = Path(ui.__file__).with_name("app.py")
QUERY = "red/0.png"


@pytest.fixture
def embedder():
    return ToyEmbedder()


@pytest.fixture
def workbench(tmp_path, embedder):
    index = Index.create(tmp_path / "index", embedder)
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "broken.png").write_bytes(b"no picture")
    index.add(write_coloured(tmp_path / "pictures", 6), label_from="parent", num_workers=0)
    return workbenches.use(Workbench(index))


def opened(**params) -> AppTest:
    page = AppTest.from_file(APP, default_timeout=60)
    for name, value in params.items():
        page.query_params[name] = value
    return drawn(page.run())


def drawn(page: AppTest) -> AppTest:
    assert not page.exception and not page.warning and not page.error
    return page


def said(page: AppTest) -> str:
    return "\n".join(element.value for element in page.markdown)


def test_never_empty(workbench):
    page = opened()
    assert "Some of **24** pictures" in said(page)
    (shuffle,) = [button for button in page.button if button.label == "Draw others"]
    drawn(shuffle.click().run())
    assert page.query_params["seed"] == "1"


def test_a_slider_loads_no_model_and_encodes_nothing(workbench, embedder, monkeypatch):
    page = opened(like=QUERY)
    assert "Hits **1–24**" in said(page)

    def refuse(*arguments, **options):
        raise AssertionError("expected no model to be loaded and nothing to be encoded")

    monkeypatch.setattr("retrieval.Embedder.load", refuse)
    monkeypatch.setattr(embedder, "encode_pixels", refuse)
    before = embedder.encoded
    drawn(page.sidebar.slider(key="option_min_score").set_value(0.4).run())
    drawn(page.sidebar.toggle(key="option_shows_attention").set_value(True).run())
    drawn(page.sidebar.slider(key="option_min_score").set_value(0.0).run())
    drawn(page.sidebar.multiselect(key="filter_label").set_value(["red", "blue"]).run())
    assert "Hits **1–12**" in said(page) and embedder.encoded == before
    assert page.query_params == {"like": QUERY, "look": "on", "where": '{"label":["red","blue"]}'}


def test_filters_come_from_the_url_and_go_there(workbench):
    page = opened(like=QUERY, where='{"label":["red"],"dim":{"gte":180}}', k="12")
    assert page.sidebar.multiselect(key="filter_label").value == ["red"]
    assert page.sidebar.slider(key="filter_dim").value[0] == 180
    drawn(page.sidebar.multiselect(key="filter_label").set_value([]).run())
    assert page.query_params["where"] == '{"dim":{"gte":180}}'


def test_pages_keep_their_place(workbench):
    page = opened(like=QUERY, k="12")
    drawn(page.button(key="next_hits").click().run())
    assert "Hits **13–24**" in said(page) and page.query_params["page"] == "1"
    assert page.button(key="next_hits").disabled and not page.button(key="previous_hits").disabled
    drawn(page.button(key="previous_hits").click().run())
    assert "Hits **1–12**" in said(page) and "page" not in page.query_params


def test_where_nothing_is_grouped_it_is_said(workbench, tmp_path):
    pictures = tmp_path / "pictures"
    rows = [f"{pictures}/red/0.png,warm,", f"{pictures}/green/0.png,warm,", f"{pictures}/blue/0.png,cold,3"]
    (tmp_path / "p.csv").write_text("\n".join(["path,label,Shelf", *rows]))
    index = Index.create(tmp_path / "shelves", workbench.view.index.embedder)
    index.add(tmp_path / "p.csv", num_workers=0)
    workbenches.use(Workbench(index))
    page = opened(like=index.catalog()["id"][0], group="Shelf", where='{"label":["warm"]}')
    assert [each.value for each in page.caption if "Shelf" in each.value] == [
        "Nothing is grouped: none of the hits has a value in the column Shelf."
    ]


@pytest.mark.parametrize("may_change", [False, True])
def test_where_files_lie_is_told_on_this_machine_alone(workbench, tmp_path, may_change):
    from ui.page.details import _facts

    def corpus():
        from ui.page import corpus_page

        corpus_page.show()

    for number, name in enumerate(("one.csv", "two.csv")):
        (tmp_path / name).write_text(f"id,path\n{number},{tmp_path}/pictures/red/{number}.png\n")
    embedder = ToyEmbedder()
    embedder.name = str(tmp_path / "toy-model")
    index = Index.create(tmp_path / "lists", embedder)
    index.add(tmp_path / "one.csv", tmp_path / "two.csv", num_workers=0)
    bench = workbenches.use(Workbench(index, may_change=may_change))
    facts = _facts(bench, "0", None)
    assert {fact["what"] for fact in facts} >= {"id", "sha256", "width"}
    told = {fact["what"] for fact in facts if str(tmp_path) in fact["value"]}
    assert told == ({"uri", "listed_in"} if may_change else set())
    assert "listed_in" in index.column_names() and "listed_in" not in {one.column for one in bench.view.filters}
    captions = "".join(each.value for each in drawn(AppTest.from_function(corpus, default_timeout=60).run()).caption)
    assert "toy-model" in captions and (str(tmp_path) in captions) == may_change


def test_groups_and_diversity(workbench):
    page = opened(like=QUERY, group="label", diverse="0.5")
    assert "Hits **1–4**" in said(page)
    assert page.sidebar.slider(key="option_diverse").value == 0.5
    drawn(page.sidebar.selectbox(key="option_group_by").set_value("").run())
    assert "Hits **1–24**" in said(page) and page.query_params == {"like": QUERY, "diverse": "0.5"}


def test_a_query_that_is_gone_is_said_in_words(workbench):
    page = AppTest.from_file(APP, default_timeout=60)
    page.query_params["like"] = "@" + "0" * 64
    page.run()
    assert not page.exception and "it has forgotten; add it again" in page.warning[0].value


def test_an_empty_index(tmp_path):
    workbenches.use(Workbench(Index.create(tmp_path / "index", ToyEmbedder())))
    page = AppTest.from_file(APP, default_timeout=60).run()
    assert not page.exception and "This index holds no pictures yet" in page.info[0].value
