"""The pages in a real browser, on an index of the sample pictures and on one of real photos."""

import os
import runpy
import shutil
from pathlib import Path

import pytest
from page_browser import Visitor, chromium, server
from toy import write_pngs

from indexer import Index
from retrieval import Embedder
from retrieval.shipped import shipped

pytest.importorskip("streamlit", reason="expected the packages for the page: pip install 'spyglass-image-search[ui]'")
pytestmark = pytest.mark.slow

NUM_EACH = 2


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def shots(tmp_path_factory) -> Path:
    """Where screenshots go: SPYGLASS_SCREENSHOTS, or a folder of the test run."""
    folder = Path(os.environ.get("SPYGLASS_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def embedder():
    return Embedder.load(device="cpu")


@pytest.fixture(scope="module")
def samples(tmp_path_factory, embedder) -> Index:
    """Two sample pictures of each kind, judged a little, and one file that is none."""
    root = tmp_path_factory.mktemp("samples")
    write = runpy.run_path(str(shipped("sample_pictures.py")))["write_pictures"]
    write(root / "pictures", num_per_kind=NUM_EACH, size=128)
    (root / "pictures" / "broken.jpg").write_bytes(b"no picture")
    index = Index.create(root / "samples.index", embedder)
    index.add(root / "pictures", label_from="parent", num_workers=0)
    ids = sorted(index.catalog()["id"])
    for place in range(0, 20, NUM_EACH):
        index.record_feedback(ids[place], ids[place + 1], True, user="ann")
        index.record_feedback(ids[place], ids[place + NUM_EACH], False, user="ann")
    return index


@pytest.fixture(scope="module")
def address(samples, tmp_path_factory, browser):
    with server(samples.path, tmp_path_factory.mktemp("server") / "ui.log") as address:
        yield address


@pytest.fixture
def visit(browser, address, shots, request):
    """Opens the page as a visitor; every one of them must have seen no complaint in the end."""
    visitors = []

    def open_as(path: str = "/", **looks) -> Visitor:
        visitors.append(Visitor(browser, address, shots, **looks))
        visitors[-1].open(path)
        return visitors[-1]

    yield open_as
    for number, visitor in enumerate(visitors):
        visitor.leave(f"{request.node.name.replace('/', '-')}-{number}")


def picture_of(index: Index, number: int = 0) -> Path:
    return Path(index.catalog()["uri"][number])


def test_from_upload_to_hits_to_more_hits(visit, samples):
    visitor = visit()
    visitor.page.wait_for_selector(".card")
    assert len(visitor.refs()) == 24  # drawn at random
    visitor.shoot("start")
    visitor.search_with(picture_of(samples))
    assert visitor.refs()[0] == samples.catalog()["id"][0]
    assert visitor.page.locator(".figures").first.inner_text().startswith("similarity 1.000")
    visitor.shoot("upload")
    second = visitor.refs()[1]
    visitor.act(1, "only")
    visitor.wait_until(lambda: visitor.refs()[:1] == [second])
    assert f"like={second.replace('/', '%2F')}" in visitor.page.url
    visitor.act(2, "more")
    visitor.page.wait_for_selector(".chip.liked")
    visitor.settle()
    visitor.act(5, "less")
    visitor.page.wait_for_selector(".chip.disliked")
    visitor.settle()
    assert visitor.page.locator(".chip.liked").count() == 2
    visitor.shoot("several")
    visitor.shoot("several", width=390)
    before = visitor.refs()
    visitor.page.reload()
    visitor.page.wait_for_selector(".figures")
    visitor.settle()
    assert visitor.refs() == before
    visitor.page.locator(".chip").last.get_by_text("remove").click()
    visitor.wait_until(lambda: not visitor.page.locator(".chip.disliked").count())


def test_an_upload_outlives_a_reload_and_can_be_shared(visit, samples):
    visitor = visit()
    visitor.search_with(picture_of(samples, 7))
    other = visit("/" + visitor.page.url.rpartition("/")[2])
    other.page.wait_for_selector(".figures")
    other.settle()
    assert other.refs() == visitor.refs() and other.page.locator(".stage").count() == 1


def test_a_picture_is_dropped_pasted_or_none(visit, samples, tmp_path):
    visitor = visit()
    visitor.give("drop", picture_of(samples, 9))
    assert visitor.refs()[0] == samples.catalog()["id"][9]
    visitor.give("paste", picture_of(samples, 12))
    visitor.wait_until(lambda: visitor.refs()[:1] == [samples.catalog()["id"][12]])
    (tmp_path / "words.png").write_text("no picture")
    visitor.page.set_input_files("input[type=file]", tmp_path / "words.png")
    visitor.page.locator(".problem", has_text="expected").wait_for()
    visitor.shoot("no-picture")


def test_a_part_is_drawn_by_mouse_and_by_keys(visit, samples):
    visitor = visit(f"/?like={samples.catalog()['id'][3]}")
    whole = visitor.refs()
    box = visitor.page.locator(".area").bounding_box()
    visitor.page.mouse.move(box["x"] + 10, box["y"] + 10)
    visitor.page.mouse.down()
    visitor.page.mouse.move(box["x"] + 90, box["y"] + 70, steps=4)
    visitor.page.mouse.up()
    visitor.page.get_by_text("Search by the whole picture").wait_for()
    visitor.settle()
    assert "crop=" in visitor.page.url and visitor.refs() != whole
    visitor.shoot("part")
    visitor.page.locator(".area").press("Escape")
    visitor.page.get_by_text("Drag over it").wait_for()
    visitor.settle()
    assert "crop=" not in visitor.page.url and visitor.refs() == whole
    visitor.page.locator(".area").press("ArrowLeft")
    visitor.page.locator(".area").press("Shift+ArrowUp")
    visitor.page.locator(".area").press("Enter")
    visitor.page.get_by_text("Search by the whole picture").wait_for()
    visitor.settle()
    assert "crop=" in visitor.page.url


def test_thumbs_are_kept_at_once(visit, samples):
    visitor = visit(f"/?like={samples.catalog()['id'][30]}")
    before = len(samples.feedback())
    liked, disliked = visitor.refs()[1], visitor.refs()[2]
    visitor.act(1, "relevant")
    visitor.act(2, "irrelevant")
    visitor.wait_until(lambda: len(samples.feedback()) == before + 2)
    rows = samples.feedback().tail(2)
    assert list(rows["query"]) == [samples.catalog()["id"][30]] * 2
    assert list(rows["image"]) == [liked, disliked] and list(rows["relevant"]) == [True, False]
    visitor.shoot("judged")
    visitor.page.reload()
    visitor.page.wait_for_selector(".figures")
    visitor.settle()
    assert visitor.page.locator("[aria-pressed=true]").count() == 2


def test_filters_pages_and_overlays(visit, samples):
    visitor = visit(f"/?like={samples.catalog()['id'][0]}&k=12")
    first = visitor.refs()
    visitor.page.get_by_role("button", name="Next").click()
    visitor.page.get_by_text("Page 2").wait_for()
    visitor.settle()
    assert "page=1" in visitor.page.url and not set(first) & set(visitor.refs())
    visitor.page.reload()
    visitor.page.get_by_text("Page 2").wait_for()
    visitor.page.get_by_text("Show where the model looks").click()
    visitor.page.wait_for_url("**look=on**")
    visitor.settle()
    image = visitor.page.locator(".card img").last
    image.scroll_into_view_if_needed()
    image.evaluate("image => image.decode()")
    assert "attention" in visitor.page.locator(".card img").first.get_attribute("src")
    visitor.shoot("attention")
    visitor.page.get_by_test_id("stMultiSelect").get_by_role("combobox").first.click()
    visitor.page.get_by_role("option", name="balloons").click()
    visitor.page.wait_for_url("**where=**balloons**")
    visitor.page.keyboard.press("Escape")
    visitor.settle()
    visitor.wait_until(lambda: len(visitor.refs()) == NUM_EACH)
    assert all("balloons" in ref for ref in visitor.refs())


def test_details_and_what_matches(visit, samples):
    visitor = visit(f"/?like={samples.catalog()['id'][0]}")
    visitor.act(1, "details")
    dialog = visitor.page.get_by_role("dialog")
    dialog.locator("img").first.wait_for()
    for part in ("Where the model looks", "What matches the query"):
        dialog.get_by_text(part).click()
        visitor.settle()
        dialog.locator("img").first.wait_for()
    dialog.get_by_text("the wider a line").wait_for()
    visitor.shoot("match")


def test_the_keyboard_alone_will_do(visit, samples):
    visitor = visit(f"/?like={samples.catalog()['id'][4]}")
    visitor.cards().first.locator(".picture").focus()
    visitor.page.keyboard.press("ArrowRight")
    visitor.page.keyboard.press("ArrowDown")
    ref = visitor.focused()
    assert ref in visitor.refs()[2:]
    visitor.page.keyboard.press("+")
    visitor.page.wait_for_selector(".chip.liked")
    visitor.settle()
    assert f"like={ref.replace('/', '%2F')}" in visitor.page.url


def test_two_visitors_at_once(visit, samples):
    first, second = visit(), visit(width=390, scheme="dark")
    first.page.set_input_files("input[type=file]", picture_of(samples, 1))
    second.page.set_input_files("input[type=file]", picture_of(samples, 50))
    for visitor, number in ((first, 1), (second, 50)):
        visitor.page.wait_for_selector(".figures")
        visitor.settle()
        assert visitor.refs()[0] == samples.catalog()["id"][number]
    second.shoot("upload")


def test_the_corpus(visit, samples, tmp_path):
    visitor = visit("/corpus")
    visitor.page.get_by_text("Where the pictures lie").wait_for()
    visitor.page.get_by_text("Left out of the index: 1 picture.").wait_for()
    assert f"{len(samples.catalog()):,}" in visitor.page.locator("[data-testid=stMetricValue]").first.inner_text()
    visitor.shoot("corpus")
    write_pngs(tmp_path, range(3))
    visitor.page.get_by_text("Add pictures").click()
    visitor.page.get_by_role("textbox").fill(str(tmp_path))
    visitor.page.get_by_role("button", name="Add", exact=True).click()
    visitor.page.get_by_text("3 added").wait_for()
    visitor.page.reload()
    visitor.page.get_by_text("3 added").wait_for()  # a job of the server, not of the page
    visitor.settle()
    visitor.cards().first.locator(".picture").click()
    visitor.page.wait_for_selector(".stage")
    visitor.settle()


def test_training(visit, samples):
    visitor = visit("/training")
    visitor.page.get_by_text("Settings").click()
    visitor.page.get_by_label("Epochs, at most").fill("1")
    visitor.page.get_by_label("Candidates of each query").fill("8")
    visitor.page.keyboard.press("Tab")
    visitor.page.get_by_role("button", name="Start training").click()
    visitor.page.get_by_role("button", name="Stop").wait_for()
    visitor.page.reload()
    visitor.page.get_by_text("mine: trained on").wait_for(timeout=90_000)
    visitor.settle()
    visitor.page.locator("canvas, .vega-embed").first.wait_for()
    visitor.shoot("training")
    visitor.page.get_by_test_id("stRadio").get_by_text("mine", exact=True).click()
    visitor.wait_until(lambda: samples.ranker_in_use() == "mine")
    visitor.settle()
    samples.use_ranker(None)


@pytest.mark.parametrize("path", ["/", "/corpus", "/training"])
def test_looks(visit, path):
    visitor = visit(path, width=390, scheme="dark")
    visitor.page.wait_for_selector(".card")
    for width in (390, 1280):
        visitor.shoot(f"look{path.replace('/', '-').rstrip('-')}", width=width)
        boxes = visitor.card_boxes()
        assert boxes and all(box["left"] >= 0 and box["right"] <= width for box in boxes), boxes
        # Neither over each other nor squeezed: what is on a card can be seen and clicked.
        assert all(box["width"] >= 80 and box["inner"] <= box["width"] for box in boxes), boxes
        assert not any(_overlap(one, other) for number, one in enumerate(boxes) for other in boxes[:number])


def _overlap(one: dict[str, float], other: dict[str, float]) -> bool:
    is_beside = one["right"] <= other["left"] + 1 or other["right"] <= one["left"] + 1
    return not (is_beside or one["bottom"] <= other["top"] + 1 or other["bottom"] <= one["top"] + 1)


def test_real_photos(browser, shared, shots, tmp_path, embedder):
    photos = tmp_path / "photos"
    photos.mkdir()
    for path in sorted((shared / "data" / "photos").glob("*.jpg"))[:30]:
        shutil.copy(path, photos)
    index = Index.create(tmp_path / "photos.index", embedder)
    index.add(photos, num_workers=0)
    with server(index.path, tmp_path / "ui.log") as address:
        visitor = Visitor(browser, address, shots)
        visitor.open()
        visitor.search_with(next(photos.iterdir()))
        assert visitor.refs()[0] == next(photos.iterdir()).name
        visitor.act(1, "only")
        visitor.shoot("photos")
        visitor.leave("photos-end")
