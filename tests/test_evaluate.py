"""The table that compares adaptive lengths with fixed ones, other choices of length, and raw pixels."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from retrieval.errors import UsageError
from retrieval.evaluate import evaluate
from retrieval.measuring.rival_dims import random_dims
from retrieval.measuring.statistics import spearman
from retrieval.metrics import instance_ranks, retrieval_metrics


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def made_up_embeddings(labels, seed=0, longest=512):
    """Noisy class centres whose first numbers matter most, cut at random dims."""
    rng = np.random.default_rng(seed)
    _, classes = np.unique(labels, return_inverse=True)
    strength = 1 / np.sqrt(np.arange(1, longest + 1))
    centres = rng.standard_normal((classes.max() + 1, longest))
    full = unit((centres[classes] + 2 * rng.standard_normal((len(labels), longest))) * strength).astype(np.float32)
    dims = rng.integers(32, longest + 1, len(labels))
    vectors = unit(np.where(np.arange(longest) < dims[:, None], full, 0)).astype(np.float32)
    return SimpleNamespace(vectors=vectors, full=full, dims=dims)


def test_by_hand():
    # At two numbers 0 and 1 are one picture, as are 2 and 3; the third number swaps partners.
    full = unit(np.array([[1, 0, 2, 0], [1, 0, -2, 0], [0.1, 1, 2, 0], [0.1, 1, -2, 0]], dtype=np.float32))
    vectors = full.copy()
    vectors[:, 2:] = 0
    vectors[:2, 1] = 0
    embeddings = SimpleNamespace(vectors=unit(vectors), full=full, dims=np.array([1, 1, 2, 2]))

    evaluation = evaluate(embeddings, ["a", "a", "b", "b"], widths=(2, 4))

    names = ["adaptive", "fixed 2", "fixed 4", "fixed at mean 2", "random dims", "energy dims"]
    assert [row.name for row in evaluation.rows] == names
    adaptive, two, four, at_mean, _, energy = evaluation.rows
    for name in ("recall@1", "map@r"):
        assert [row.measures[name] for row in (adaptive, two, four)] == [100, 100, 0]
        assert [row.intervals[name] for row in (adaptive, two, four)] == [(100, 100), (100, 100), (0, 0)]
        assert (two.adaptive_lead[name], four.adaptive_lead[name]) == ((0, 0), (100, 100))
    assert adaptive.adaptive_lead == {} and at_mean.measures == two.measures
    assert (adaptive.mean_dim, adaptive.std_dim, adaptive.bytes_per_vector) == (1.5, 0.5, 4)
    assert (two.mean_dim, two.std_dim, two.bytes_per_vector, four.bytes_per_vector) == (2, 0, 4, 8)
    assert energy.mean_dim == 1.5
    assert evaluation.bucket_shares == {2: 1.0, 4: 0.0}


def test_rows_are_the_metrics_of_their_galleries():
    labels = [f"class {i % 9}" for i in range(150)] + ["alone"]
    embeddings = made_up_embeddings(labels)
    pixels = np.random.default_rng(1).random((151, 3072))
    pixels[7] = 0.5  # a picture of one colour
    evaluation = evaluate(embeddings, labels, pixels=pixels)

    zero_padded = np.zeros_like(embeddings.full)
    zero_padded[:, :64] = unit(embeddings.full[:, :64])
    centred = pixels - pixels.mean(axis=1, keepdims=True)
    centred[np.arange(151) != 7] = unit(centred[np.arange(151) != 7])
    centred[7] = 0
    expected = {
        "adaptive": (embeddings.full, embeddings.vectors),
        "fixed 64": (embeddings.full, zero_padded),
        "fixed 512": (embeddings.full, embeddings.full),
        "raw pixels 32x32": (centred, centred),
    }
    rows = {row.name: row for row in evaluation.rows}
    assert len(rows) == 10
    for name, (queries, gallery) in expected.items():
        metrics = retrieval_metrics(queries, gallery, labels, labels, exclude_self=True)
        assert rows[name].measures == pytest.approx(
            {f"recall@{k}": metrics.recall_at(k) for k in (1, 5, 10)}
            | {"map@r": metrics.map_at_r, "map@100": metrics.map_at_100}
            | {"ndcg@100": metrics.mean_ndcg_at_100, "mrr": metrics.mrr}
        )
    assert rows["raw pixels 32x32"].bytes_per_vector == 6144
    assert (evaluation.num_images, evaluation.num_classes, evaluation.num_left_out) == (151, 10, 1)
    assert sum(evaluation.bucket_shares.values()) == pytest.approx(1)


def test_rivals_have_the_same_mean_and_their_own_dims():
    labels = [f"class {i % 9}" for i in range(150)]
    embeddings = made_up_embeddings(labels)
    evaluation = evaluate(embeddings, labels, seed=5, oracle=True)
    rows = {row.kind: row for row in evaluation.rows}
    adaptive = rows["adaptive"]
    for kind in ("random", "energy", "oracle"):
        assert rows[kind].mean_dim == pytest.approx(adaptive.mean_dim, abs=2)
    assert (rows["random"].std_dim, rows["random"].bytes_per_vector) == (adaptive.std_dim, adaptive.bytes_per_vector)
    at_mean = next(row for row in evaluation.rows if row.name.startswith("fixed at mean"))
    assert at_mean.name == f"fixed at mean {round(adaptive.mean_dim)}" and at_mean.mean_dim == round(adaptive.mean_dim)
    assert rows["oracle"].measures["map@r"] > max(row.measures["map@r"] for row in (adaptive, rows["random"], at_mean))

    # The random row is the mean over its deals.
    found = []
    for dims in random_dims(embeddings.dims, seed=5):
        gallery = unit(np.where(np.arange(512) < dims[:, None], embeddings.full, 0))
        found.append(retrieval_metrics(embeddings.full, gallery, labels, labels, exclude_self=True).map_at_r)
    assert rows["random"].measures["map@r"] == pytest.approx(np.mean(found))
    assert len(set(found)) == 3


def test_leads_are_paired_differences():
    labels = [str(i % 10) for i in range(400)]
    rows = evaluate(made_up_embeddings(labels), labels).rows
    for row in rows[1:]:
        for name in ("recall@1", "map@r"):
            low, high = row.adaptive_lead[name]
            assert low <= rows[0].measures[name] - row.measures[name] <= high
    # Both rows rise and fall with the same hard queries, so their difference is surer than either.
    own = np.ptp(rows[0].intervals["map@r"])
    assert all(np.ptp(row.adaptive_lead["map@r"]) < own for row in rows[1:] if row.kind == "random")


def distorted_copies(embeddings, noise, seed=3):
    steps = np.random.default_rng(seed).standard_normal(embeddings.full.shape) / np.sqrt(embeddings.full.shape[1])
    return SimpleNamespace(full=unit(embeddings.full + noise * steps).astype(np.float32))


def test_finding_the_original():
    labels = [f"class {i % 9}" for i in range(150)]
    embeddings = made_up_embeddings(labels)
    copies = distorted_copies(embeddings, 6.0)
    evaluation = evaluate(embeddings, labels, distorted=copies, pixels=np.random.default_rng(1).random((150, 12)))
    rows = {row.name: row for row in evaluation.rows}
    for name, gallery in (("adaptive", embeddings.vectors), ("fixed 64", unit(embeddings.full[:, :64]))):
        ranks = instance_ranks(copies.full[:, : gallery.shape[1]], gallery, range(150))
        share = 100 * float((ranks == 1).mean())
        assert rows[name].measures["instance_recall@1"] == pytest.approx(share) and 5 < share < 100
        low, high = rows[name].intervals["instance_recall@1"]
        assert low < share < high
    low, high = rows["fixed 32"].adaptive_lead["instance_recall@1"]
    own = rows["adaptive"].measures["instance_recall@1"] - rows["fixed 32"].measures["instance_recall@1"]
    assert low <= own <= high
    assert "instance_recall@1" not in rows["raw pixels 2x2"].measures
    assert "original" in evaluation.table()


@pytest.mark.parametrize("labels", [None, [str(i) for i in range(60)], [None] * 60])
def test_pictures_without_common_labels_find_their_originals_alone(labels):
    embeddings = made_up_embeddings([str(i % 6) for i in range(60)])
    copies = distorted_copies(embeddings, 6.0)
    pixels = np.random.default_rng(1).random((60, 3072))
    evaluation = evaluate(embeddings, labels, distorted=copies, oracle=True, pixels=pixels)
    assert {name for row in evaluation.rows for name in row.measures} == {"instance_recall@1"}
    assert [row.name for row in evaluation.rows][-1] == "instance oracle dims"
    assert evaluation.num_left_out == 60
    assert "R@1" not in evaluation.table()


def test_labels_that_are_missing_ask_no_query():
    labels = [f"class {i % 4}" for i in range(40)] + [None] * 20
    evaluation = evaluate(made_up_embeddings([str(label) for label in labels]), labels)
    assert (evaluation.num_images, evaluation.num_classes, evaluation.num_left_out) == (60, 4, 20)


def test_dims_are_compared_with_complexity():
    labels = ["x", "y", "z"] * 20
    embeddings = made_up_embeddings(labels)
    measures = {"bits_per_pixel": embeddings.dims**2 / 7, "edge_density": np.arange(60.0), "colour": np.ones(60)}
    evaluation = evaluate(embeddings, labels, complexity=measures)
    assert evaluation.correlations["bits_per_pixel"] == pytest.approx(1)
    assert evaluation.correlations["edge_density"] == spearman(embeddings.dims, np.arange(60))
    assert evaluation.to_dict()["correlations"]["colour"] is None
    assert "+1.00 with bits per pixel" in evaluation.table()


def test_intervals_hold_the_mean_and_shrink_with_more_queries():
    def widths_of(num):
        labels = [str(i % 10) for i in range(num)]
        row = evaluate(made_up_embeddings(labels), labels).rows[0]
        for value, (low, high) in (
            (row.measures["recall@1"], row.intervals["recall@1"]),
            (row.measures["map@r"], row.intervals["map@r"]),
        ):
            assert low < value < high
        # 1.96 standard errors of a share, either way.
        share = row.measures["recall@1"] / 100
        expected = 2 * 1.96 * 100 * np.sqrt(share * (1 - share) / num)
        low, high = row.intervals["recall@1"]
        assert high - low == pytest.approx(expected, rel=0.15)
        return high - low

    assert widths_of(1600) < 0.7 * widths_of(400)


def test_same_embeddings_give_the_same_evaluation():
    labels = [str(i % 5) for i in range(60)]
    assert evaluate(made_up_embeddings(labels), labels) == evaluate(made_up_embeddings(labels), labels)


def test_dict_is_json_and_table_is_aligned():
    labels = ["x", "y", "z"] * 20
    embeddings = made_up_embeddings(labels)
    evaluation = evaluate(
        embeddings,
        labels,
        pixels=np.random.default_rng(0).random((60, 3072)),
        distorted=distorted_copies(embeddings, 1.0),
        complexity={"bits_per_pixel": np.arange(60), "edge_density": np.arange(60)},
        oracle=True,
    )

    document = json.loads(json.dumps(evaluation.to_dict()))
    assert set(document["buckets"]) == {"32", "64", "128", "256", "512"}
    adaptive, fixed = document["rows"][0], document["rows"][3]
    assert adaptive["recall@1"] == evaluation.rows[0].measures["recall@1"]
    assert adaptive["map@r_interval"] == list(evaluation.rows[0].intervals["map@r"])
    assert fixed["name"] == "fixed 128" and fixed["kind"] == "fixed"
    assert fixed["adaptive_lead"]["instance_recall@1"] == list(evaluation.rows[3].adaptive_lead["instance_recall@1"])

    lines = evaluation.table().splitlines()
    assert max(map(len, lines)) <= 150
    values, intervals = lines[:13], lines[14:27]
    for block in (values, intervals):
        assert len({len(line) for line in block}) == 1
        assert [line.split("  ")[0] for line in block[1:]] == [row.name for row in evaluation.rows]
    assert all(heading in values[0] for heading in ("R@1", "mAP@R", "mAP@100", "nDCG@100", "MRR", "original", "bytes"))
    assert f"{evaluation.rows[0].measures['recall@1']:.1f}" in values[1]
    low, high = evaluation.rows[1].adaptive_lead["map@r"]
    assert f"{low:+.2f} to {high:+.2f}" in intervals[2]
    assert "60 images of 3 classes" in lines[-3] and "Spearman" in lines[-2] and "32: " in lines[-1]


GOOD = made_up_embeddings(["a", "b"] * 5)


def changed(**parts):
    return SimpleNamespace(**{**vars(GOOD), **parts})


@pytest.mark.parametrize(
    "embeddings, labels, options, message",
    [
        (GOOD, ["a"] * 9, {}, "and 9 labels"),
        (changed(vectors=GOOD.vectors[:, :64]), ["a"] * 10, {}, "(10, 64), (10, 512)"),
        (changed(dims=GOOD.dims[:3]), ["a"] * 10, {}, "(3,)"),
        (GOOD, ["a"] * 10, {"widths": (64, 32)}, "ascending widths in 1..512, got (64, 32)"),
        (GOOD, ["a"] * 10, {"widths": (32, 1024)}, "ascending widths in 1..512, got (32, 1024)"),
        (GOOD, ["a"] * 10, {"widths": (32,)}, "dims in 1..32"),
        (GOOD, ["a"] * 10, {"pixels": np.zeros((9, 3072))}, "pixels (10, P), got (9, 3072)"),
        (GOOD, [str(i) for i in range(10)], {}, "check the labels"),
        (GOOD, None, {}, "check the labels"),
        (GOOD, ["a"] * 10, {"complexity": {"edges": np.zeros(9)}}, "edges of each of 10 images, got (9,)"),
        (GOOD, ["a"] * 10, {"distorted": changed(full=GOOD.full[1:])}, "(10, 512), got (9, 512)"),
    ],
)
def test_mistakes_are_named(embeddings, labels, options, message):
    with pytest.raises(UsageError) as caught:
        evaluate(embeddings, labels, **options)
    assert message in str(caught.value) and "\n" not in str(caught.value)
