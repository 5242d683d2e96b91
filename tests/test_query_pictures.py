"""Pictures of a query in every form: files, ids of the index, encoded ones; weighed against each other."""

import shutil

import numpy as np
import pytest
from toy import ToyEmbedder, pixels_of, png, write_pngs
from toy_rankers import perturbed, weighing

from indexer import EncodedPicture, ImageId, Index
from retrieval.errors import ImageError, MismatchError, UsageError, WeightsError

NUM = 20
RANKER = perturbed()


@pytest.fixture
def embedder() -> ToyEmbedder:
    return ToyEmbedder()


@pytest.fixture
def index(tmp_path, embedder) -> Index:
    index = Index.create(tmp_path / "p.index", ToyEmbedder(), dtype="float32")
    index.add(write_pngs(tmp_path / "photos", range(NUM)), num_workers=0)
    return Index.open(index.path, embedder)


def ids(hits) -> list[str]:
    return [hit.id for hit in hits]


def full_of(*seeds: int) -> np.ndarray:
    return ToyEmbedder().encode_pixels(np.stack([pixels_of(seed)[::2, ::2] for seed in seeds])).full


@pytest.mark.parametrize("ranker", [None, RANKER])
def test_an_image_of_the_index_is_searched_by_its_picture(index, ranker):
    expected = index.search(png(3), ranker=ranker)
    for query in (ImageId("003.png"), "003.png", [ImageId("003.png")], *index.encode_pictures([ImageId("003.png")])):
        assert index.search(query, ranker=ranker) == expected
    less = index.search(png(3), subtract=[png(4)], ranker=ranker)
    assert index.search("003.png", subtract=ImageId("004.png"), ranker=ranker) == less
    assert index.search(ImageId("003.png"), crop=(0, 0, 32, 64)) == index.search(png(3), crop=(0, 0, 32, 64))


def test_a_file_goes_before_an_id(index, tmp_path, monkeypatch):
    (tmp_path / "003.png").write_bytes(png(4))
    monkeypatch.chdir(tmp_path)
    assert ids(index.search("003.png"))[0] == "004.png" and ids(index.search(ImageId("003.png")))[0] == "003.png"


@pytest.mark.parametrize("change", ["gone", "replaced"])
def test_the_stored_vector_stands_for_a_picture_that_is_no_more(index, embedder, tmp_path, change):
    path = tmp_path / "photos" / "003.png"
    path.unlink() if change == "gone" else path.write_bytes(png(4))
    vectors = index._open_gallery().vectors(np.arange(NUM))
    hits = index.search(ImageId("003.png"), top_k=NUM)
    assert embedder.encoded == 0  # no model is at work
    assert [int(hit.id[:3]) for hit in hits] == np.argsort(-(vectors @ vectors[3]), kind="stable").tolist()
    assert hits[0].score == pytest.approx(1, abs=1e-6)
    (encoded,) = index.encode_pictures([ImageId("003.png")])
    assert encoded.attention is None and encoded.dim == hits[0].dim
    assert len(encoded.tokens.values) == index._open_gallery().tokens.take([3]).counts[0]
    assert ids(index.search(ImageId("003.png"), ranker=RANKER))[0] == "003.png"
    with pytest.raises(ImageError, match="expected (a|the) picture"):
        index.search(ImageId("003.png"), crop=(0, 0, 5, 5))


def test_one_without_tokens_is_ranked_by_the_rest(index, tmp_path):
    bare = Index.create(tmp_path / "bare.index", ToyEmbedder(), dtype="float32", token_bytes=0)
    bare.add(tmp_path / "photos", num_workers=0)
    (encoded,) = bare.encode_pictures([png(3)])
    assert encoded.tokens is None
    hits = index.search(encoded, ranker=weighing(product=-1), top_k=NUM)
    assert ids(hits)[0] == "003.png" and ids(hits)[1:] == ids(index.search(png(3), rerank=0, top_k=NUM))[:0:-1]
    mixed = index.search([encoded, png(4)], ranker=RANKER)
    assert len(mixed) == 10 and all(np.isfinite(hit.score) for hit in mixed)


def test_pictures_are_encoded_once_and_searched_by_often(index, embedder):
    encoded = index.encode_pictures([png(3), png(4), pixels_of(1000)])
    assert embedder.encoded == 3 and all(isinstance(one, EncodedPicture) for one in encoded)
    np.testing.assert_allclose([one.vector for one in encoded], full_of(3, 4, 1000), atol=1e-6)
    assert encoded[0].attention.shape == (4, 4) and len(encoded[0].token_places) == len(encoded[0].tokens.values)
    found = index.search_many(encoded, subtract=encoded[1:2], ranker=RANKER)
    assert embedder.encoded == 3
    again = index.search_many([png(3), png(4), pixels_of(1000)], subtract=[png(4)], ranker=RANKER)
    for some, others in zip(found, again, strict=True):
        assert ids(some) == ids(others)
    assert index.encode_pictures([]) == []
    (part,) = index.encode_pictures([pixels_of(1000)], crop=(0, 0, 32, 32))
    assert ids(index.search(part)) == ids(index.search(pixels_of(1000), crop=(0, 0, 32, 32)))


def test_one_bad_picture_stops_the_others_or_not(index):
    pictures = [png(3), b"no picture", "nowhere.png", ImageId("nobody"), 7, png(4)]
    first, *bad, last = index.encode_pictures(pictures, on_error="skip")
    np.testing.assert_allclose([first.vector, last.vector], full_of(3, 4), atol=1e-6)
    assert [type(error) for error in bad] == [ImageError, ImageError, UsageError, ImageError]
    with pytest.raises(ImageError, match="^expected a JPEG"):
        index.encode_pictures(pictures)
    with pytest.raises(UsageError, match="expected on_error 'skip' or 'stop', got 'never'"):
        index.encode_pictures([], on_error="never")


def test_a_file_that_is_no_picture_is_named_among_several(index, tmp_path):
    torn = tmp_path / "torn.png"
    torn.write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"torn\.png: expected a JPEG, .*, got something else$"):
        index.search([png(3), torn])


def test_who_is_not_there_may_be_one_of_these(index):
    with pytest.raises(UsageError, match="expected the id of an image of the index, got '03.png'; the closest is '003"):
        index.search(ImageId("03.png"))
    with pytest.raises(
        ImageError, match="No such file or directory, nor is it the id of an image; the closest is '012.png'"
    ):
        index.search("12.png")
    with pytest.raises(ImageError, match="expected a picture at \udcff, but cannot read it: No such file"):
        index.search("\udcff")


def test_a_picture_encoded_by_another_model(index, tmp_path):
    other = Index.create(tmp_path / "other.index", ToyEmbedder(fingerprint="beef"))
    encoded = other.encode_pictures([png(3)])
    with pytest.raises(MismatchError, match=r"of the index \(f00df00df00d\), got one of another \(beef\); encode it"):
        index.search(encoded[0])
    (own,) = index.encode_pictures([png(3)])
    with pytest.raises(UsageError, match="expected a crop where the picture is encoded, got one for an encoded"):
        index.search(own, crop=(0, 0, 5, 5))


def test_weights_by_hand(index):
    one, two, three, four = full_of(1, 2, 3, 4)
    sums = {
        (1, 1, 1): (one + two + three) / 3,
        (3, 1, 0): (3 * one + two) / 4,
        (2, -1, 0.5): (2 * one - two + 0.5 * three) / 3.5,
    }
    stored = index._open_gallery().vectors(np.arange(NUM))
    for weights, mean in sums.items():
        for subtract, vector in (((), mean), ([png(4)], mean - 0.5 * four)):
            hits = index.search([png(1), png(2), png(3)], weights=weights, subtract=subtract, top_k=NUM)
            scores = stored @ (vector / np.linalg.norm(vector))
            assert [int(hit.id[:3]) for hit in hits] == np.argsort(-scores).tolist()
            np.testing.assert_allclose([hit.score for hit in hits], np.sort(scores)[::-1], atol=1e-5)
    plain = index.search([png(1), png(2)], ranker=RANKER)
    assert index.search([png(1), png(2)], weights=[0.5, 0.5], ranker=RANKER) == plain
    # What is looked for less lends no tokens, and none of its dims.
    alone = index.search_many([[png(1), png(2)]], weights=[1, -1e-9], ranker=RANKER)
    assert ids(alone[0]) == ids(index.search(png(1), ranker=RANKER))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1], "expected a weight for each of 2 pictures, got 1; give one each"),
        ([0, -1], "expected weights as finite numbers, one of them above 0, got"),
        ([1, float("nan")], "expected weights as finite numbers"),
        ([1, "2"], "expected weights as finite numbers"),
        (2.0, "expected weights as finite numbers"),
    ],
)
def test_what_are_no_weights(index, weights, message):
    with pytest.raises(UsageError, match=message):
        index.search([png(0), png(1)], weights=weights)


def test_the_index_may_have_moved(index, tmp_path):
    """Ids are of the index, not of the place where it lies."""
    moved = shutil.copytree(index.path, tmp_path / "moved.index")
    assert Index.open(moved, ToyEmbedder()).search(ImageId("003.png")) == index.search(ImageId("003.png"))


def test_what_can_be_said_before_a_model_is_loaded(index, tmp_path):
    opened = Index.open(index.path)  # whose model, "toy", is none that could be loaded by its name
    opened.check_search([ImageId("003.png"), "004.png", str(tmp_path / "photos" / "003.png"), png(3), pixels_of(3)])
    opened.check_search(where={"width": 64}, group_by="label", diverse=0.5)
    for pictures, options, error in (
        (["nowhere.png"], {}, ImageError),
        ([ImageId("nobody")], {}, UsageError),
        ([], {"where": "colour = 1"}, UsageError),
        ([], {"group_by": "colour"}, UsageError),
        ([], {"offset": -1}, UsageError),
        ([], {"ranker": "nobody"}, WeightsError),
    ):
        with pytest.raises(error, match="^expected"):
            opened.check_search(pictures, **options)
    assert opened._embedder is None


def test_where_a_name_leads(index, tmp_path):
    path = str(tmp_path / "photos" / "003.png")
    assert index.uri_of("003.png") == path == index.uri_of(path) and index.uri_of("nowhere.png") == "nowhere.png"


def test_an_explanation_of_any_picture(index):
    expected = index.explain(png(3), "004.png", ranker=RANKER)
    for query in (ImageId("003.png"), "003.png", *index.encode_pictures([png(3)])):
        found = index.explain(query, "004.png", ranker=RANKER)
        np.testing.assert_allclose(found.weights, expected.weights, atol=1e-6)
        assert found.query_places.tolist() == expected.query_places.tolist()


def test_a_picture_that_is_gone_cannot_be_explained(index, tmp_path):
    (tmp_path / "photos" / "003.png").unlink()
    with pytest.raises(ImageError, match="expected a picture to tell where its tokens lie, got a stored vector"):
        index.explain(ImageId("003.png"), "004.png", ranker=RANKER)
