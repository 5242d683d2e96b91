"""The ranker as a folder, and what it makes of queries and candidates."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from toy_rankers import TOY, perturbed, weighing

from retrieval import Ranker, ranker_weights, weights_folder
from retrieval.errors import UsageError, WeightsError
from retrieval.reranking.described import Described
from retrieval.reranking.metadata import CategoryColumn, MetadataColumns, NumberColumn

COLUMNS = MetadataColumns(
    numbers=(NumberColumn(name="price", mean=2.0, spread=0.5),),
    categories=(CategoryColumn(name="kind", values=("boat", "car")),),
)


def pictures(*shape: int, seed: int = 0, num_tokens: int = 5) -> Described:
    """Made-up pictures for the toy's rankers, with `COLUMNS`; one to all of the tokens count."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(num_tokens) < torch.randint(1, num_tokens + 1, shape, generator=generator)[..., None]
    return Described(
        vectors=F.normalize(torch.randn(*shape, 512, generator=generator), dim=-1),
        dims=torch.randint(32, 513, shape, generator=generator).float(),
        tokens=F.normalize(torch.randn(*shape, num_tokens, 12, generator=generator), dim=-1) * mask[..., None],
        mask=mask,
        numbers=torch.randn(*shape, 1, generator=generator),
        categories=torch.randint(0, 3, (*shape, 1), generator=generator),
    )


def test_what_is_saved_is_loaded(tmp_path):
    saved = perturbed(metadata=COLUMNS)
    saved.save(tmp_path / "mine", notes={"epochs": 3})
    assert {path.name for path in (tmp_path / "mine").iterdir()} == {"config.json", "model.safetensors"}
    assert json.loads((tmp_path / "mine" / "config.json").read_text())["notes"] == {"epochs": 3}
    assert {value.dtype for value in load_file(tmp_path / "mine" / "model.safetensors").values()} == {torch.float16}
    state = torch.random.get_rng_state()
    assert saved.name == str(tmp_path / "mine")
    loaded = Ranker.load(tmp_path / "mine")
    assert torch.equal(torch.random.get_rng_state(), state)
    assert (loaded.config, loaded.embedder, loaded.name) == (saved.config, TOY, str(tmp_path / "mine"))
    queries, candidates = pictures(3), pictures(3, 7, seed=1)
    relevance = loaded.score(queries, candidates)
    assert relevance.shape == (3, 7) and relevance.dtype == np.float32
    np.testing.assert_allclose(relevance, saved.score(queries, candidates), atol=0.05)
    loaded.save(tmp_path / "again")
    np.testing.assert_array_equal(Ranker.load(tmp_path / "again").score(queries, candidates), relevance)


def test_the_shipped_one_is_found_by_the_name_of_the_weights(tmp_path, monkeypatch):
    perturbed().save(tmp_path / "weights" / "default" / "ranker")
    monkeypatch.setattr(weights_folder, "shipped", lambda name: tmp_path / name)
    assert Ranker.load().name == Ranker.load("default").name == "default"
    (tmp_path / "default").mkdir()
    monkeypatch.chdir(tmp_path)
    assert Ranker.load().name == Ranker.load("default").name == "default"


def test_many_queries_are_scored_in_chunks(monkeypatch):
    queries, candidates, feedback = pictures(9), pictures(9, 4, seed=1), torch.rand(9, 4, 6)
    ranker = perturbed(metadata=COLUMNS)
    expected = ranker.attention(queries, candidates, feedback).detach().numpy()
    calls = []
    for most in (ranker_weights._MOST_NUMBERS, 1):
        monkeypatch.setattr(ranker_weights, "_MOST_NUMBERS", most)
        handle = ranker.attention.register_forward_hook(lambda *_: calls.append(1))
        np.testing.assert_allclose(ranker.score(queries, candidates, feedback), expected, atol=1e-5)
        handle.remove()
    assert len(calls) == 1 + 9


def test_the_order_of_the_candidates_does_not_matter():
    queries, candidates = pictures(2), pictures(2, 6, seed=1)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    ranker = perturbed(metadata=COLUMNS)
    shuffled = ranker.score(queries, candidates.map(lambda field: field[:, order]))
    np.testing.assert_allclose(shuffled, ranker.score(queries, candidates)[:, order], atol=1e-5)


def test_explained_by_hand():
    # Two tokens of the query lie along axes 0 and 1; the image's along 1, 0 and 2: sharp heads find the counterparts.
    axes = torch.eye(12)
    query = pictures(1)._replace(tokens=axes[None, [0, 1, 5]], mask=torch.tensor([[True, True, False]]))
    image = pictures(1)._replace(tokens=axes[None, [1, 0, 2]], mask=torch.ones(1, 3, dtype=torch.bool))
    ranker = weighing()
    ranker.attention.token_match.log_temperature_H.data[:] = np.log(0.01)
    # Forth: all of either query token's 1/2. Back: 1/3 each; the third finds nothing alike and looks at both evenly.
    expected = np.array([[0, 1 / 2, 0], [1 / 2, 0, 0]]) / 2 + np.array([[0, 1 / 3, 1 / 6], [1 / 3, 0, 1 / 6]]) / 2
    weights = ranker.explain(query, image)
    assert weights.shape == (2, 2, 3) and weights.dtype == np.float32
    np.testing.assert_allclose(weights, np.stack([expected, expected]), atol=1e-6)


def test_explained_pairs_add_up_to_the_match():
    ranker = perturbed(metadata=COLUMNS)
    match = ranker.attention.token_match
    for seed in range(5):
        query, image = pictures(1, seed=seed), pictures(1, 1, seed=seed + 100)
        weights = torch.from_numpy(ranker.explain(query.take(0), image.take((0, 0))))
        torch.testing.assert_close(weights.sum((1, 2)), torch.ones(2))
        query_HNE, image_HME = match.heads_of(query.tokens[query.mask]), match.heads_of(image.tokens[image.mask])
        of_pairs_H = 2 * (weights * (query_HNE @ image_HME.mT)).sum((1, 2))
        with torch.no_grad():
            match_QKH = match(query.tokens, query.mask, image.tokens, image.mask)
        torch.testing.assert_close(of_pairs_H, match_QKH[0, 0])


def test_candidates_that_do_not_fit_the_queries():
    with pytest.raises(UsageError, match=r"expected candidates \(2, K\) for 2 queries, got \(3, 4\)"):
        perturbed(metadata=COLUMNS).score(pictures(2), pictures(3, 4))
    with pytest.raises(UsageError, match=r"expected candidates \(2, K\) for 2 queries, got \(2,\)"):
        perturbed(metadata=COLUMNS).score(pictures(2), pictures(2))


@pytest.mark.parametrize(
    ("side", "field", "end", "message"),
    [
        ("queries", "vectors", slice(400), r"^expected vectors \(2, 512\) of the queries, got \(2, 400\); encode"),
        ("queries", "tokens", slice(8), r"^expected tokens \(2, 5, 12\) of the queries, got \(2, 5, 8\)"),
        ("queries", "numbers", slice(0), r"^expected numbers \(2, 1\) of the queries, got \(2, 0\)"),
        ("candidates", "vectors", slice(400), r"^expected vectors \(2, 3, 512\) of the candidates, got \(2, 3, 400\)"),
        ("candidates", "tokens", slice(8), r"^expected tokens \(2, 3, 5, 12\) of the candidates, got \(2, 3, 5, 8\)"),
        ("candidates", "mask", slice(4), r"^expected tokens \(2, 3, 4, 12\) of the candidates, got \(2, 3, 5, 12\)"),
        ("candidates", "mask", 0, r"^expected tokens .* of the candidates, got"),
        (
            "candidates",
            "categories",
            slice(0),
            r"got \(2, 3, 0\); .* describe them by its columns \['price', 'kind'\]$",
        ),
    ],
)
def test_a_field_that_the_ranker_cannot_read_is_named(side, field, end, message):
    sides = {"queries": pictures(2), "candidates": pictures(2, 3)}
    sides[side] = sides[side]._replace(**{field: getattr(sides[side], field)[..., end]})
    with pytest.raises(UsageError, match=message):
        perturbed(metadata=COLUMNS).score(**sides)


def test_feedback_may_be_an_array_and_is_one_a_candidate():
    queries, candidates, feedback = pictures(2), pictures(2, 3), torch.rand(2, 3, 6)
    ranker = perturbed(metadata=COLUMNS)
    expected = ranker.score(queries, candidates, feedback)
    np.testing.assert_array_equal(ranker.score(queries, candidates, feedback.double().numpy()), expected)
    for wrong in (feedback[..., :5], feedback[:1], feedback[0]):
        with pytest.raises(UsageError, match=r"^expected feedback \(2, 3, 6\), got \([^;]*\); make it of the same"):
            ranker.score(queries, candidates, wrong)


def edit(folder, **changes) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_folders_that_hold_no_ranker(tmp_path):
    home = tmp_path / "r"
    perturbed().save(home)
    whole = json.loads((home / "config.json").read_text())
    for name in ("no/such", str(tmp_path / "none")):
        with pytest.raises(WeightsError, match="expected a folder with config.json and model.safetensors, got "):
            Ranker.load(name)
    with pytest.raises(WeightsError, match="expected 'default', or a folder .*, got 'nobody', which is neither"):
        Ranker.load("nobody")
    for changes, message in [
        ({"format": 2}, "expected weights of format 1 in .*, got format 2"),
        ({"embedder": None}, "got a config.json that says: expected an embedder's fingerprint, got None"),
        (
            {"ranker": whole["ranker"] | {"num_heads": 0}},
            "expected whole weights in .*, got a config.json that says: expected num_heads of",
        ),
        ({"ranker": {}}, "expected whole weights in .*, got files that do not parse: KeyError"),
        ({"ranker": whole["ranker"] | {"num_heads": 3}}, "expected weights that fit .*config.json, got others: "),
    ]:
        edit(home, **changes)
        with pytest.raises(WeightsError, match=message):
            Ranker.load(home)
        edit(home, **whole)
    state = load_file(home / "model.safetensors")
    save_file(state | {"first": torch.full_like(state["first"], torch.nan)}, home / "model.safetensors")
    with pytest.raises(
        WeightsError, match="expected finite weights in .*, got NaN or infinity; train the ranker again"
    ):
        Ranker.load(home)
    (home / "model.safetensors").write_bytes(b"short")
    with pytest.raises(WeightsError, match="expected whole weights in .*, got files that do not parse"):
        Ranker.load(home)
    (home / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match="expected config.json and model.safetensors in "):
        Ranker.load(home)
