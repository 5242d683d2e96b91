"""Explanations of hits: which pairs are shown, where on the pictures, and the files that are written."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from toy import ToyEmbedder, png, write_pngs
from toy_rankers import perturbed

from indexer import Index
from indexer.searching.explaining import MatchExplanation
from ui.pictures import match_overlay
from ui.pictures.match_overlay import overlay, save_all, strongest_pairs

GREY = (128, 128, 128)


def explanation(weights, query_places, image_places, grid=(2, 4)) -> MatchExplanation:
    return MatchExplanation(
        weights=np.array(weights, np.float32),
        query_places=np.array(query_places),
        image_places=np.array(image_places),
        grid=grid,
    )


def test_the_strongest_pairs_by_hand():
    weights = [[[0.5, 0.0, 0.1], [0.2, 0.2, 0.0]], [[0.4, 0.3, 0.1], [0.1, 0.1, 0.0]]]
    found = explanation(weights, [7, 2], [3, 0, 5])
    # (0, 1), at 0.15 as much as (1, 0) and (1, 1), shares its query token with the first.
    assert [pair[:2] for pair in strongest_pairs(found)] == [(7, 3), (2, 0)]
    assert [pair[2] for pair in strongest_pairs(found)] == pytest.approx([0.45, 0.15])
    assert len(strongest_pairs(found, 1)) == 1
    assert found.match_places.tolist() == [3, 3] and found.match_weights.tolist() == pytest.approx([0.45, 0.15])


def test_the_overlay_marks_both_places_and_joins_them():
    # The query's last place to the image's first, on grids of two rows and four columns.
    found = explanation([[[1.0]]], [7], [0])
    left, right = Image.new("RGB", (480, 240), GREY), Image.new("RGB", (200, 200), GREY)
    plain = np.asarray(overlay(left, right, explanation(np.zeros((1, 0, 0)), [], []), title="a", detail="b"))
    drawn = np.asarray(overlay(left, right, found, title="a", detail="b"))
    assert drawn.shape == plain.shape == (480 + 56 + 48, 480 + 120 + 480 + 48, 3)
    rows, columns = np.nonzero((drawn != plain).any(axis=2))
    # Query: 480×240, in the middle of the height; its place spans x 360..480, y 120..240 of it. Image: 120×240 at 0, 0.
    assert (columns.min(), rows.max()) == (24 + 360, 24 + 56 + 120 + 240 - 1)
    assert (columns.max(), rows.min()) == (24 + 480 + 120 + 120 - 1, 24 + 56)
    gap = (columns > 24 + 480) & (columns < 24 + 480 + 120)
    assert len(np.unique(columns[gap])) == 119  # a line, all across
    colours = {tuple(pixel) for pixel in drawn[(drawn != plain).any(axis=2)].tolist()}
    assert tuple(bytes.fromhex("E69F00")) in colours


def test_stronger_pairs_have_wider_lines_and_no_more_than_eight_are_shown():
    rng = np.random.default_rng(0)
    found = explanation(rng.uniform(size=(3, 20, 20)), range(20), range(20), grid=(4, 5))
    picture = Image.new("RGB", (64, 64), GREY)
    drawn = np.asarray(overlay(picture, picture, found, title="x" * 500))
    colours = {tuple(pixel) for pixel in drawn.reshape(-1, 3).tolist()}
    named = [tuple(bytes.fromhex(colour[1:])) for colour in match_overlay._COLOURS]
    assert len(named) == match_overlay.MOST_PAIRS and set(named) <= colours

    two = explanation([[[0.9, 0], [0, 0.1]]], [0, 15], [0, 15], grid=(4, 4))
    drawn = np.asarray(overlay(picture, picture, two, title=""))
    middle = drawn[:, 24 + 480 + 60].tolist()
    first, second = (middle.count([*named[number]]) for number in (0, 1))
    assert first > second >= 2


@pytest.fixture
def index(tmp_path) -> Index:
    index = Index.create(tmp_path / "p.index", ToyEmbedder())
    index.add(write_pngs(tmp_path / "photos", range(12)), num_workers=0)
    perturbed().save(index.path / "rankers" / "ann")
    return index


def test_what_is_saved(index, tmp_path, caplog):
    query = tmp_path / "query.png"
    query.write_bytes(png(1000))
    hits = index.search(query, top_k=3, ranker="ann")
    assert save_all(tmp_path / "new" / "why", index, str(query), hits, ranker="ann") == 0
    stems = [f"{hit.rank:02}-{hit.id[:-4]}" for hit in hits]
    files = sorted(path.name for path in (tmp_path / "new" / "why").iterdir())
    drawn = [f"{stem}.{kind}" for stem in stems for kind in ("png", "npz")]
    assert files == sorted([*drawn, "explanations.json"])
    expected = index.explain(query, hits[0], ranker="ann")
    with np.load(tmp_path / "new" / "why" / f"{stems[0]}.npz", allow_pickle=False) as arrays:
        assert arrays["weights"].shape[0] == 2 and arrays["grid"].tolist() == [4, 4]
        for name in ("weights", "query_places", "image_places", "match_places", "match_weights"):
            np.testing.assert_array_equal(arrays[name], getattr(expected, name))
    with Image.open(tmp_path / "new" / "why" / f"{stems[0]}.png") as image:
        assert image.mode == "RGB" and image.width > 2 * 480

    (tmp_path / "photos" / hits[1].id).unlink()
    assert save_all(tmp_path / "again", index, str(query), hits, ranker="ann") == 1
    assert len(list((tmp_path / "again").iterdir())) == 5
    assert f"no explanation of hit 2: expected a picture at {hits[1].uri}, but cannot read it" in caplog.text


@pytest.mark.parametrize(
    ("image_id", "name"),
    [
        ("a/b/boat.jpg", "boat"),
        ("Schnee – 雪.png", "Schnee___雪"),
        ("x.parquet#12", "x.parquet_12"),
        ("..", ".."),
        ("y" * 300 + ".png", "y" * 40),
    ],
)
def test_file_names(image_id, name):
    assert match_overlay._file_name(SimpleNamespace(id=image_id)) == name
