"""Re-ranking in search: what the ranker is given, what order comes out, and what is said where it cannot be had."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from toy import ToyEmbedder, pixels_of, png, write_pngs
from toy_rankers import TOY, perturbed, weighing
from toy_rankers import config as toy_config

from indexer import Index
from indexer.judgments import ranker_folders
from indexer.searching import judged, query, reranking
from indexer.searching.encoding import PictureEncoder
from retrieval import Ranker, ranker_weights
from retrieval.errors import ImageError, IndexFolderError, MismatchError, UsageError, WeightsError
from retrieval.ranker import RelevanceAttention
from retrieval.reranking.described import Described
from retrieval.reranking.metadata import CategoryColumn, MetadataColumns, NumberColumn

NUM = 40
COLUMNS = MetadataColumns(
    numbers=(NumberColumn(name="price", mean=100.0, spread=10.0), NumberColumn(name="unheard_of", mean=0, spread=1)),
    categories=(CategoryColumn(name="kind", values=("even", "odd")),),
)


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> Index:
    """Forty pictures in three segments, with a price and a kind each."""
    folder = tmp_path_factory.mktemp("reranking")
    write_pngs(folder / "photos", range(NUM))
    for number, seeds_of in enumerate((range(10), range(10, 30), range(30, NUM)), start=1):
        with open(folder / f"{number}.csv", "w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["path", "price", "kind"])
            rows.writerows([f"photos/{seed:03d}.png", seed * 10, ("even", "odd")[seed % 2]] for seed in seeds_of)
    index = Index.create(folder / "p.index", ToyEmbedder(), dtype="float32")
    for number in (1, 2, 3):
        index.add(folder / f"{number}.csv", num_workers=0)
    return index


@pytest.fixture
def copy(index, tmp_path) -> Index:
    shutil.copytree(index.path, tmp_path / "copy.index")
    return Index.open(tmp_path / "copy.index", ToyEmbedder())


def ids(hits) -> list[str]:
    return [hit.id for hit in hits]


def seeds(hits) -> list[int]:
    return [int(hit.uri[-7:-4]) for hit in hits]


def encoded(*numbers: int):
    return ToyEmbedder().encode_pixels(np.stack([pixels_of(number)[::2, ::2] for number in numbers]))


def test_a_ranker_that_likes_the_unlike_turns_the_candidates_round(index):
    alike = index.search(png(1000), top_k=8)
    hits = index.search(png(1000), top_k=3, rerank=8, ranker=weighing(product=-1))
    assert ids(hits) == ids(alike)[::-1][:3]
    assert [(hit.rank, hit.similarity_rank) for hit in hits] == [(1, 8), (2, 7), (3, 6)]
    assert [hit.similarity for hit in hits] == pytest.approx([hit.similarity for hit in alike[:-4:-1]])
    products = np.array([hit.score for hit in alike])
    expected = (products.mean() - products) / products.std()
    assert [hit.score for hit in hits] == pytest.approx(expected[::-1][:3].tolist(), rel=1e-3)


def test_a_ranker_of_tokens_reads_those_of_query_and_candidates(index):
    """By hand: at a low temperature the match is the mean of the best cosines, looked for from either side."""
    ranker = weighing(token1=1)
    ranker.attention.token_match.log_temperature_H.data[:] = np.log(1e-3)
    units = [part.numpy()[mask.numpy()] for part, mask in zip(*encoded(1000, *range(NUM)).tokens.padded(), strict=True)]
    cosines = [units[0] @ unit.T for unit in units[1:]]
    match = np.array([cosine.max(axis=1).mean() + cosine.max(axis=0).mean() for cosine in cosines])
    hits = index.search(png(1000), top_k=NUM, ranker=ranker)
    assert seeds(hits) == np.argsort(-match).tolist()
    assert [hit.score for hit in hits] == pytest.approx(sorted((match - match.mean()) / match.std())[::-1], abs=1e-3)


def test_a_fresh_ranker_keeps_the_order_of_similarity(index):
    alike = index.search(png(1000), top_k=NUM)
    hits = index.search(png(1000), top_k=NUM, ranker=weighing(product=1))
    assert ids(hits) == ids(alike) and [hit.similarity_rank for hit in hits] == [*range(1, NUM + 1)]


def test_without_reranking_nothing_changes(index):
    plain = index.search(png(1000), top_k=5)
    assert plain == index.search(png(1000), top_k=5, rerank=0) and plain[0].similarity_rank is None


@pytest.mark.parametrize("options", [{"where": "price < 150"}, {"where": "kind = 'odd'"}, {}])
@pytest.mark.parametrize("top_k", [1, 6, 500])
def test_filters_and_more_hits_than_candidates(index, options, top_k):
    alike = ids(index.search(png(1000), top_k=NUM, rerank=0, **options))
    hits = index.search(png(1000), top_k=top_k, rerank=5, ranker=weighing(product=-1), **options)
    assert ids(hits) == [*alike[4::-1], *alike[5:]][:top_k]
    assert index.search(png(1000), ranker=weighing(product=-1), where="price < 0") == []


def test_min_score_is_one_of_similarity(index):
    alike = index.search(png(1000), top_k=20)
    hits = index.search(png(1000), top_k=4, rerank=20, ranker=weighing(product=-1), min_score=alike[9].score)
    assert ids(hits) == ids(alike[6:10])[::-1] and [hit.rank for hit in hits] == [1, 2, 3, 4]


def test_equal_scores_are_ordered_by_row(index):
    hits = index.search(png(1000), top_k=NUM, ranker=weighing())
    assert seeds(hits) == [*range(NUM)] and {hit.score for hit in hits} == {0.0}


def test_many_at_once_is_one_at_a_time(index, monkeypatch):
    asked = [png(number) for number in range(1000, 1008)] + [[png(3), png(5)]]
    options = {"top_k": 7, "rerank": 12, "ranker": perturbed(), "expand": 2, "subtract": png(9), "min_score": -0.1}
    expected = [index.search(one, **options) for one in asked]
    assert len({tuple(ids(hits)) for hits in expected}) > 5
    for pairs, numbers in [(reranking._PAIRS, ranker_weights._MOST_NUMBERS), (30, 1)]:
        monkeypatch.setattr(reranking, "_PAIRS", pairs)
        monkeypatch.setattr(ranker_weights, "_MOST_NUMBERS", numbers)
        for hits, alone in zip(index.search_many(asked, **options), expected, strict=True):
            assert ids(hits) == ids(alone)
            assert [hit.similarity_rank for hit in hits] == [hit.similarity_rank for hit in alone]
            np.testing.assert_allclose([hit.score for hit in hits], [hit.score for hit in alone], atol=1e-4)
    assert index.search_many([]) == []


def test_several_pictures_are_one_query_with_the_tokens_of_all(index):
    toy = ToyEmbedder()
    encoder = PictureEncoder(index._open_gallery(), index._manifest.model, lambda: toy)
    one, two, three, four = encoder.encode([png(number) for number in (1, 2, 3, 4)], token_bytes=36)
    asked = query.combine([[one, two], [three]], [four], token_dim=12)
    assert asked.tokens.counts.tolist() == [len(one.tokens.values) + len(two.tokens.values), len(three.tokens.values)]
    parts = [part.tokens.values for part in (one, two, three)]
    assert asked.tokens.values.tolist() == np.concatenate(parts).tolist()
    assert asked.dims.tolist() == pytest.approx([(one.dim + two.dim) / 2, three.dim])
    full = encoded(1, 2, 3, 4).full
    sums = np.stack([full[:2].mean(axis=0), full[2]]) - 0.5 * full[3]
    np.testing.assert_allclose(asked.vectors, sums / np.linalg.norm(sums, axis=1, keepdims=True), atol=1e-6)


def test_expansion_by_hand(index):
    vectors, full = encoded(*range(NUM)).vectors, encoded(1000).full[0]
    best = np.argsort(-vectors @ full)[:3]
    wider = full + 0.35 * vectors[best].sum(axis=0)
    wider /= np.linalg.norm(wider)
    scores = vectors @ wider
    hits = index.search(png(1000), top_k=10, expand=3)
    assert seeds(hits) == np.argsort(-scores)[:10].tolist() and seeds(hits) != np.argsort(-vectors @ full)[:10].tolist()
    assert [hit.score for hit in hits] == pytest.approx(np.sort(scores)[::-1][:10].tolist(), abs=1e-5)
    # Similarity is that to the query as it was asked.
    likeness = {hit.id: hit.similarity for hit in index.search(png(1000), top_k=NUM)}
    assert {hit.id: hit.similarity for hit in hits} == pytest.approx({hit.id: likeness[hit.id] for hit in hits})
    assert seeds(index.search(png(1000), top_k=1, expand=3)) == seeds(hits)[:1]


def test_expansion_by_what_the_ranker_likes(index):
    vectors, full = encoded(*range(NUM)).vectors, encoded(1000).full[0]
    (worst,) = np.argsort(-vectors @ full)[:8][-1:]
    wider = full + 0.35 * vectors[worst]
    candidates = np.argsort(-vectors @ wider)[:8]
    hits = index.search(png(1000), top_k=8, rerank=8, ranker=weighing(product=-1), expand=1)
    assert seeds(hits) == candidates[::-1].tolist() and [hit.similarity_rank for hit in hits] == [*range(8, 0, -1)]


def test_more_than_the_reranked_join_a_query(index):
    """Of forty candidates, with ten asked for to be ranked, twenty join: those that the ranker likes of twenty."""
    vectors, full = encoded(*range(NUM)).vectors, encoded(1000).full[0]
    wider = full + 0.35 * vectors[np.argsort(-vectors @ full)[:20]].sum(axis=0)
    candidates = np.argsort(-vectors @ wider)[:10]
    hits = index.search(png(1000), top_k=10, rerank=10, ranker=weighing(product=-1), expand=20)
    assert seeds(hits) == candidates[::-1].tolist()


def test_the_very_picture_comes_first_whatever_the_ranker_says(index):
    for options in ({}, {"expand": 3}, {"crop": (0, 0, 64, 64)}):
        others = weighing(product=-1)
        hits = index.search(png(17), top_k=NUM, ranker=others, **options)
        scores = [hit.score for hit in hits]
        assert seeds(hits)[0] == 17 and hits[0].similarity == pytest.approx(1, abs=1e-6)
        assert scores == sorted(scores, reverse=True) and scores[0] == pytest.approx(scores[1] + 1, abs=1e-4)
        # All else is as the ranker has it.
        assert [hit.similarity_rank for hit in hits[1:]] == [*range(NUM, 1, -1)]
    # Where the ranker has it in front already its score stays.
    front = index.search(png(17), top_k=NUM, ranker=weighing(product=3))
    assert seeds(front)[0] == 17 and np.std([hit.score for hit in front]) == pytest.approx(3, rel=1e-3)


def test_scores_raised_by_hand():
    scores = np.array([[1.0, 3, 2, 0], [1, 2, 3, 4], [5, 2, 3, 4], [4, 3, 2, 1]], np.float32)
    is_same = np.array([[True, False, True, False], [False] * 4, [True, False, False, False], [True] * 4])
    raised = reranking.same_first(scores, is_same)
    assert raised.tolist() == [[4, 3, 5, 0], [1, 2, 3, 4], [5, 2, 3, 4], [4, 3, 2, 1]] and raised.dtype == np.float32


def test_metadata_of_query_and_candidates_is_read(index):
    nearest = index.search(png(1000), ranker=weighing(metadata=COLUMNS, metadata0=1), metadata={"price": 201})
    assert seeds(nearest)[0] == 20
    same = weighing(metadata=COLUMNS, metadata4=1)
    hits = index.search(png(1000), top_k=NUM, ranker=same, metadata={"kind": "odd", "price": "cheap"})
    assert seeds(hits) == [*range(1, NUM, 2), *range(0, NUM, 2)]
    for unknown in (None, {}, {"kind": "strange"}):
        assert seeds(index.search(png(1000), top_k=NUM, ranker=same, metadata=unknown)) == [*range(NUM)]


def test_feedback_moves_what_was_accepted_to_the_front(copy):
    like_it = weighing(accepted=1, rejected=-1)
    assert seeds(copy.search(png(1000), top_k=NUM, ranker=like_it)) == [*range(NUM)]
    id_of = dict(zip(seeds(copy.search(png(1000), top_k=NUM)), ids(copy.search(png(1000), top_k=NUM)), strict=True))
    copy.record_feedback(png(50), id_of[7], True)
    copy.record_feedback(id_of[1], id_of[30], True, user="ann")
    copy.record_feedback(png(50), id_of[12], False)
    assert seeds(copy.search(png(1000), top_k=NUM, ranker=like_it))[0] == 7
    assert seeds(copy.search(png(1000), top_k=NUM, ranker=like_it))[-1] == 12
    assert seeds(copy.search(png(1000), top_k=NUM, ranker=like_it, user="ann"))[0] == 30
    copy.record_feedback(png(50), id_of[7], False)
    assert seeds(copy.search(png(1000), top_k=NUM, ranker=like_it))[-2:] == [7, 12]


def test_what_was_said_is_not_read_for_a_ranker_that_never_learned_from_it(copy, monkeypatch):
    id_of = dict(zip(seeds(copy.search(png(1000), top_k=NUM)), ids(copy.search(png(1000), top_k=NUM)), strict=True))
    copy.record_feedback(png(50), id_of[7], True)
    fresh = Ranker(RelevanceAttention(toy_config()), embedder=TOY)
    assert perturbed().reads_feedback and weighing(rejected=1).reads_feedback and not fresh.reads_feedback
    expected = copy.search(png(1000), top_k=NUM, rerank=0)
    monkeypatch.setattr(judged.JudgedVectors, "of", lambda *_: pytest.fail("read"))
    assert ids(copy.search(png(1000), top_k=NUM, ranker=fresh)) == ids(expected)


def test_judgments_as_vectors(copy):
    by_seed = {int(hit.uri[-7:-4]): hit.id for hit in copy.search(png(1000), top_k=NUM)}
    copy.record_feedback(by_seed[3], by_seed[4], True)
    copy.record_feedback(png(77), by_seed[5], False)
    copy.record_feedback(png(77), by_seed[6], True)
    said = copy.feedback()
    gone = said.iloc[:2].assign(image=["elsewhere.png", by_seed[8]], query=["x", "nothing kept"], query_image=None)
    embedder, encoded_pictures = ToyEmbedder(), {}
    gallery = copy._open_gallery()
    known = judged.judgments_of(pd.concat([gone, said], ignore_index=True), gallery, embedder, encoded_pictures)
    assert known.relevant.tolist() == [True, False, True]
    row_of = gallery.catalog.find(by_seed.values())
    assert known.rows.tolist() == [row_of[by_seed[seed]] for seed in (4, 5, 6)]
    np.testing.assert_allclose(known.vectors, encoded(4, 5, 6).vectors, atol=1e-6)
    np.testing.assert_allclose(known.queries[0], encoded(3).vectors[0], atol=1e-6)
    np.testing.assert_allclose(known.queries[1:], encoded(77, 77).full, atol=1e-6)
    assert embedder.encoded == 1 and len(encoded_pictures) == 1
    judged.judgments_of(said, gallery, embedder, encoded_pictures)
    assert embedder.encoded == 1
    assert judged.judgments_of(gone, gallery, embedder, encoded_pictures) is None


def test_rows_without_tokens_are_ranked_by_the_rest(index, tmp_path):
    photos = write_pngs(tmp_path / "photos", range(6))
    bare = Index.create(tmp_path / "p.index", ToyEmbedder(), token_bytes=0)
    bare.add(photos, num_workers=0, batch_size=3, commit_seconds=0)
    (photos / "004.png").unlink()
    assert bare.add_tokens(num_workers=0).skipped == 1
    hits = bare.search(png(1000), ranker=perturbed())
    assert sorted(seeds(hits)) == [*range(6)] and all(np.isfinite(hit.score) for hit in hits)
    # The matches are standardised over those that have tokens; one without lies at their mean.
    hits = bare.search(png(1000), ranker=weighing(token0=1))
    by_token = dict(zip(seeds(hits), (hit.score for hit in hits), strict=True))
    assert by_token[4] == 0 and sum(by_token.values()) == pytest.approx(0, abs=1e-4) and len(set(by_token.values())) > 4


def test_an_index_without_tokens_says_how_to_add_them(tmp_path):
    bare = Index.create(tmp_path / "p.index", ToyEmbedder(), token_bytes=0)
    assert bare.search(png(0), rerank=10, ranker=perturbed()) == []  # nothing is there to have any
    bare.add(write_pngs(tmp_path / "photos", range(2)), num_workers=0)
    assert bare.search(png(0))[0].similarity_rank is None
    for options in ({"rerank": 10, "ranker": perturbed()}, {"ranker": perturbed()}, {"rerank": 1}):
        with pytest.raises(IndexFolderError, match="expected local tokens in .*, found none; .* with: spyglass tokens"):
            bare.search(png(0), **options)
    bare.add_tokens(num_workers=0)
    assert bare.search(png(0), ranker=perturbed())[0].similarity_rank is not None


def test_a_ranker_of_another_model(copy):
    with pytest.raises(MismatchError, match=r"toy \(f00df00df00d\), got by hand, trained for another \(beef\); choose"):
        copy.search(png(0), ranker=weighing(embedder="beef"))
    perturbed(embedder="beef").save(copy.path / "rankers" / "ann")
    with pytest.raises(MismatchError, match="expected a ranker trained for the model of .*copy.index"):
        copy.search(png(0), ranker="ann")
    with pytest.raises(MismatchError):
        copy.explain(png(0), copy.search(png(0))[0], ranker="ann")


def test_which_ranker_a_name_means(copy, tmp_path, monkeypatch):
    home = tmp_path / "ships"

    def shipped(name: str):
        if not (home / name).exists():
            raise WeightsError(f"expected {name!r} to ship with this install")
        return home / name

    monkeypatch.setattr(ranker_folders, "shipped", shipped)
    with pytest.raises(UsageError, match="expected a ranker beside the model of .*, toy, found none; name one"):
        copy.search(png(0), rerank=5)
    assert copy.search(png(1000))[0].similarity_rank is None
    weighing(product=-1).save(home / "weights" / "toy" / "ranker")
    alike = ids(copy.search(png(1000), rerank=0, top_k=NUM))
    assert ids(copy.search(png(1000), top_k=NUM)) == alike[::-1]  # the one beside the model's weights, by default
    assert ids(copy.search(png(1000), rerank=5, top_k=2)) == alike[4:2:-1]
    weighing(product=1).save(copy.path / "rankers" / "toy")
    assert ids(copy.search(png(1000), ranker="toy", top_k=NUM)) == alike  # the index's own goes before the shipped one
    weighing(product=-1).save(tmp_path / "mine")
    assert ids(copy.search(png(1000), ranker=tmp_path / "mine", top_k=NUM)) == alike[::-1]
    with pytest.raises(
        WeightsError, match=r"expected the name of a ranker of .* \('toy'\), or a folder .*, got 'nobody'$"
    ):
        copy.search(png(0), ranker="nobody")
    weighing(product=1, embedder="beef").save(home / "weights" / "toy" / "ranker")
    assert ids(copy.search(png(1000), top_k=NUM)) == alike  # for another model: none by default


def test_the_ranker_in_the_folder_of_the_index_s_model(tmp_path):
    embedder = ToyEmbedder()
    embedder.name = str(tmp_path / "model")
    mine = Index.create(tmp_path / "p.index", embedder)
    mine.add(write_pngs(tmp_path / "photos", range(5)), num_workers=0)
    assert mine.info()["rankers"] == [] and mine.search(png(1000))[0].similarity_rank is None
    place = tmp_path / "model" / "ranker"
    weighing(product=-1).save(place)
    alike = ids(mine.search(png(1000), rerank=0))
    assert ids(mine.search(png(1000))) == alike[::-1] and mine.info()["rankers"] == [str(place)]
    assert ids(mine.search(png(1000), ranker=mine.info()["rankers"][0])) == alike[::-1]
    weighing(embedder="beef").save(place)
    assert mine.info()["rankers"] == [] and ids(mine.search(png(1000))) == alike
    (place / "config.json").write_text("{")
    assert mine.info()["rankers"] == []
    with pytest.raises(WeightsError, match="expected whole weights in .*ranker, got files that do not parse"):
        Index.open(mine.path, embedder).search(png(1000))


def test_a_ranker_is_replaced_at_once(copy, monkeypatch):
    """Wherever the writing is cut short, the ranker of that name is the earlier one or the new one."""
    alike = ids(copy.search(png(1000), rerank=0))

    def answer() -> list[str] | None:
        fresh = Index.open(copy.path, ToyEmbedder())
        assert fresh.info()["rankers"] == ["ann"]
        return ids(fresh.search(png(1000), ranker="ann", rerank=10))

    with ranker_folders.replacing(copy.path, "ann") as new:
        weighing(product=1).save(new)
        assert copy.info()["rankers"] == []
    assert answer() == alike
    rename, survived = Path.rename, []
    for num_renames in range(3):
        left = num_renames

        def limited(path, target):
            nonlocal left
            if not left:
                raise KeyboardInterrupt
            left -= 1
            return rename(path, target)

        monkeypatch.setattr(Path, "rename", limited)
        try:
            with ranker_folders.replacing(copy.path, "ann") as new:
                weighing(product=-1).save(new)
        except KeyboardInterrupt:
            survived.append("earlier")
            assert answer() == alike
        else:
            survived.append("new")
            assert answer() == alike[::-1]
        monkeypatch.undo()
        assert not (copy.path / "rankers" / ".ann.new").exists()
    assert survived == ["earlier", "earlier", "new"]
    assert [path.name for path in (copy.path / "rankers").iterdir()] == ["ann"]


def test_what_a_crash_left_of_a_ranker_is_none(copy):
    weighing(product=-1).save(copy.path / "rankers" / ".ann.new")
    assert copy.info()["rankers"] == []
    for name in (".ann.new", "ann"):
        with pytest.raises(WeightsError, match=r"\(none yet\), or a folder .*, got "):
            copy.search(png(1000), ranker=name)
    with ranker_folders.replacing(copy.path, "ann") as new:
        assert not list(new.iterdir())
        weighing(product=1).save(new)
    assert copy.info()["rankers"] == ["ann"] and copy.search(png(1000), ranker="ann")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rerank": -1}, r"expected rerank of 0 \(not at all\) to 1000, got -1"),
        ({"rerank": 1001}, "got 1001"),
        ({"rerank": True}, "got True"),
        ({"expand": -1}, r"expected expand of 0 \(not at all\) to 1000, got -1"),
        ({"expand": 1.5}, "got 1.5"),
        ({"expand": 1001}, "got 1001"),
        ({"rerank": 0, "ranker": "x"}, "expected a ranker together with re-ranking, got rerank of 0"),
    ],
)
def test_what_cannot_be_asked(index, options, message):
    with pytest.raises(UsageError, match=message):
        index.search(png(0), **options)
    with pytest.raises(TypeError, match="colour"):
        index.search_many([png(0)], colour="red")


def test_vectors_of_a_gallery(index):
    gallery = index._open_gallery()
    numbers = np.array([[3, 0], [39, 3]])
    vectors = gallery.vectors(numbers)
    assert vectors.shape == (2, 2, 512) and vectors.dtype == np.float32
    row_of = {number: seed for number, seed in enumerate(seeds_by_row(index))}
    expected = encoded(*(row_of[number] for number in numbers.ravel())).vectors.reshape(2, 2, 512)
    np.testing.assert_allclose(vectors, expected, atol=1e-6)
    with pytest.raises(UsageError, match="expected ids that the index holds, got 1 others of 2"):
        gallery.vectors(np.array([0, 40]))


def seeds_by_row(index) -> list[int]:
    return [int(uri[-7:-4]) for uri in index.catalog()["uri"]]


def test_an_explanation_is_of_the_pictures_own_tokens(index):
    hit = index.search(png(1000), top_k=1)[0]
    ranker = perturbed()
    explanation = index.explain(png(1000), hit, ranker=ranker)
    own = encoded(1000, seeds([hit])[0])
    num = int(own.tokens.counts[0])
    assert explanation.weights.shape == (2, num, len(own.token_places) - num) and explanation.grid == (4, 4)
    assert explanation.query_places.tolist() == own.token_places[:num].tolist()
    assert explanation.image_places.tolist() == own.token_places[num:].tolist()
    np.testing.assert_allclose(explanation.weights.sum(axis=(1, 2)), 1, atol=1e-5)
    mean = explanation.weights.mean(axis=0)
    assert explanation.match_places.tolist() == explanation.image_places[mean.argmax(axis=1)].tolist()
    np.testing.assert_allclose(explanation.match_weights, mean.max(axis=1))
    again = index.explain(png(1000), hit.id, ranker=ranker)
    np.testing.assert_array_equal(again.weights, explanation.weights)


def test_a_picture_is_matched_place_by_place_with_itself(index):
    ranker = weighing()
    ranker.attention.token_match.log_temperature_H.data[:] = np.log(1e-3)
    hit = index.search(png(5), top_k=1)[0]
    explanation = index.explain(png(5), hit, ranker=ranker)
    assert explanation.match_places.tolist() == explanation.query_places.tolist()
    np.testing.assert_allclose(explanation.match_weights, 1 / len(explanation.query_places), atol=1e-4)


def test_what_cannot_be_explained(copy, tmp_path):
    with pytest.raises(UsageError, match="expected a hit or the id of an image of .*, got 'nobody'"):
        copy.explain(png(0), "nobody", ranker=perturbed())
    with pytest.raises(UsageError, match="expected a ranker beside the model of .*, toy, found none"):
        copy.explain(png(0), "0.png")
    photos = write_pngs(tmp_path / "photos", range(1))
    copy.add(photos, num_workers=0)
    (photos / "000.png").unlink()
    with pytest.raises(ImageError, match="expected a picture at .*000.png, but cannot read it: No such file"):
        copy.explain(png(0), "000.png", ranker=perturbed())
    bare = Index.create(tmp_path / "p.index", ToyEmbedder(token_dim=0))
    bare.add(write_pngs(photos, range(1)), num_workers=0)
    with pytest.raises(
        UsageError, match="expected pictures encoded by a model with local tokens, got some that have none"
    ):
        bare.explain(png(0), "000.png", ranker=perturbed())


def test_scores_are_the_ranker_s_own(index):
    """Everything that the ranker reads, gathered plainly, gives the scores of the search."""
    ranker = perturbed(metadata=COLUMNS)
    assert isinstance(ranker, Ranker) and ranker.embedder == TOY
    hits = index.search(png(1000), top_k=12, rerank=12, ranker=ranker, metadata={"price": 120, "kind": "odd"})
    asked, found = encoded(1000), encoded(*seeds(hits))
    rows = [{"price": seed * 10, "kind": ("even", "odd")[seed % 2]} for seed in seeds(hits)]

    def described(embeddings, vectors, columns, *shape):
        numbers, categories = map(torch.from_numpy, COLUMNS.encode(columns))
        tokens, mask = embeddings.tokens.padded()
        dims = torch.from_numpy(embeddings.dims).float()
        fields = Described(torch.from_numpy(vectors), dims, tokens, mask, numbers, categories)
        return fields.map(lambda field: field.unflatten(0, shape))

    expected = ranker.score(
        described(asked, asked.full, [{"price": 120, "kind": "odd"}], 1), described(found, found.vectors, rows, 1, 12)
    )
    np.testing.assert_allclose([hit.score for hit in hits], expected[0], atol=1e-4)
    assert expected[0].tolist() == sorted(expected[0].tolist(), reverse=True)


def test_verify_names_a_ranker_that_cannot_be_read(copy):
    home = copy.path / "rankers"
    for name in ("ann", "bob", "eve"):
        weighing(product=1).save(home / name)
    assert copy.verify() == []
    (home / "ann" / "model.safetensors").write_bytes(b"zzz")
    (home / "bob" / "config.json").write_text("{}")
    problems = copy.verify()
    assert [problem.split(":")[0] for problem in problems] == [
        "rankers/ann/model.safetensors",
        "rankers/bob/config.json",
    ]
