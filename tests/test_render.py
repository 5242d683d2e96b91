"""Contact sheets and attention overlays: sizes, proportions, text that stays in its tile, heat where it belongs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ui.attention import attention_overlay, colours, heat_of
from ui.lettering import drawable, fitted, font
from ui.palette import CARD, MAT, PAGE
from ui.render import SheetRow, SheetStyle, Tile, contact_sheet

BLUE, RED = (20, 60, 200), (200, 30, 30)


def tile(*, size=(120, 90), colour=BLUE, title="boat", detail="boat-00.jpg", dim=96, score=None, similarity=None):
    picture = Image.new("RGB", size, colour)
    return Tile(picture=picture, title=title, detail=detail, dim=dim, score=score, similarity=similarity)


def hit(**changes):
    return tile(**{"score": 0.91, "similarity": 0.95} | changes)


def lightness(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.convert("L"), dtype=float)


def test_the_overlay_is_bright_where_attention_is_high_and_dark_where_it_is_low():
    attention = np.zeros((4, 4))
    attention[0, 3] = 1.0
    overlay = lightness(attention_overlay(Image.new("RGB", (160, 80), (128, 128, 128)), attention))
    assert overlay.shape == (80, 160)
    assert overlay[:12, -24:].mean() > 170
    assert overlay[40:, :80].mean() < 110
    assert np.unravel_index(overlay.argmax(), overlay.shape)[1] > 120


def test_attention_that_is_even_lights_up_nothing_and_nearly_even_little():
    assert heat_of(np.full((3, 3), 1 / 9)).max() == 0
    faint = np.full((3, 3), 1 / 9)
    faint[1, 1] *= 1.1
    assert 0.05 < heat_of(faint).max() < 0.15
    peak = np.full((3, 3), 0.01)
    peak[1, 1] = 0.92
    assert heat_of(peak).max() == 1


def test_colours_grow_lighter_with_heat():
    shown = colours(np.linspace(0, 1, 64)) @ (0.2126, 0.7152, 0.0722)
    assert (np.diff(shown) > 0).all()
    assert shown[0] < 0.1 and shown[-1] > 0.9


@pytest.mark.parametrize("attention", [np.zeros((2, 2, 1)), np.zeros((0, 4)), np.array([[np.nan, 1.0]])])
def test_an_attention_map_that_is_none_is_refused(attention):
    with pytest.raises(ValueError, match=r"expected a finite attention map \(h, w\), got shape"):
        attention_overlay(Image.new("RGB", (8, 8)), attention)


def test_the_sheet_is_as_large_as_its_rows_need():
    style = SheetStyle(tile=100, gap=10, margin=20)
    row = SheetRow(query=tile(), attention=np.ones((2, 2)), hits=[hit(), hit(), hit()])
    one, two = contact_sheet([row], style=style), contact_sheet([row, row], style=style)
    assert one.mode == "RGB"
    assert one.width == two.width == 5 * 110 + 2 * 10 + 2 * 20  # query, overlay and three hits, each with its gap
    assert (
        two.height - one.height == 100 + style.caption + 3 * 10
    )  # a card is padded twice, and one gap below the other
    wrapped = contact_sheet([row], style=SheetStyle(tile=100, gap=10, margin=20, hits_per_line=2))
    assert (wrapped.width, wrapped.height) == (one.width - 110, one.height + 100 + style.caption + 10)
    without_overlay = SheetRow(query=tile(), hits=row.hits)
    assert contact_sheet([without_overlay], style=style).width == one.width - 110


@pytest.mark.parametrize("size", [(300, 100), (100, 300), (40, 40), (1, 500)])
def test_pictures_keep_their_proportions(size):
    style = SheetStyle(tile=120, gap=10, margin=20)
    row = SheetRow(query=tile(size=size, colour=RED), hits=[])
    pixels = np.asarray(contact_sheet([row], style=style)).astype(int)
    ys, xs = np.where(np.abs(pixels - RED).max(axis=2) < 12)
    scale = 120 / max(size)
    assert xs.max() - xs.min() + 1 == pytest.approx(max(round(size[0] * scale), 1), abs=1)
    assert ys.max() - ys.min() + 1 == pytest.approx(max(round(size[1] * scale), 1), abs=1)


@settings(max_examples=40, deadline=None)
@given(text=st.text(max_size=300), font_size=st.sampled_from([11, 12, 15, 30]), room=st.floats(0, 400))
def test_fitted_text_never_needs_more_than_its_room(text, font_size, room):
    line = fitted(text, font_size, room)
    assert font(font_size).getlength(line) <= room
    assert "\n" not in line and "\t" not in line


def test_fitted_text_keeps_what_fits_and_marks_what_does_not():
    assert fitted("boat", 15, 200) == "boat"
    cut = fitted("a very long name of a boat", 15, 90)
    assert cut.endswith("…") and "a very long name".startswith(cut[:-1])


def test_text_is_drawn_in_letters_that_the_font_has():
    assert drawable("Ärger – naïve façade") == "Arger - naive facade"
    assert drawable("東京.jpg") == "??.jpg"


def test_long_names_do_not_leave_their_tile():
    style = SheetStyle(tile=100, gap=10, margin=20)

    def drawn(title, detail):
        hits = [hit(title=title, detail=detail, colour=RED), hit()]
        return np.asarray(contact_sheet([SheetRow(query=tile(), hits=hits)], style=style)).astype(int)

    short, long = drawn("x", "y"), drawn("W" * 80, "naïve façade " * 30)
    changed = np.where(np.abs(short - long).max(axis=(0, 2)) > 0)[0]
    left = 20 + 10 + 110 + 10  # margin, padding, the query with its gap, the divider's gap
    assert left - 1 <= changed.min() and changed.max() <= left + 100  # a letter's soft edge may take one pixel more
    assert len(changed) > 20


def test_a_longer_bar_stands_for_a_larger_dim():
    def bar_length(dim):
        row = SheetRow(query=tile(dim=dim), hits=[])
        pixels = np.asarray(contact_sheet([row])).astype(int)
        return (np.abs(pixels - (0xD9, 0x62, 0x2B)).max(axis=2) < 4).sum(axis=1).max()

    lengths = [bar_length(dim) for dim in (32, 128, 256, 512)]
    assert lengths == sorted(set(lengths))
    assert lengths[3] == pytest.approx(2 * lengths[2], abs=3)


def test_the_sheet_has_a_margin_of_its_background_all_round():
    row = SheetRow(query=tile(), attention=np.ones((2, 2)), hits=[hit()])
    pixels = np.asarray(contact_sheet([row], title="W" * 500, subtitle="i" * 5000, style=SheetStyle(margin=30)))
    page = tuple(int(PAGE[i : i + 2], 16) for i in (1, 3, 5))
    for edge in (pixels[:28], pixels[-28:], pixels[:, :28], pixels[:, -28:]):
        assert (edge == page).all()
    assert len({PAGE, CARD, MAT}) == 3


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match="expected at least one row to draw, got none"):
        contact_sheet([])
    with pytest.raises(ValueError, match="expected tile >= 96"):
        SheetStyle(tile=10)
