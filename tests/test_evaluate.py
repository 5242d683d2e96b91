"""The table that compares adaptive lengths with fixed ones and raw pixels."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from retrieval.errors import UsageError
from retrieval.evaluate import evaluate
from retrieval.metrics import retrieval_metrics


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

    assert [row.name for row in evaluation.rows] == ["adaptive", "fixed 2", "fixed 4"]
    assert [row.recall[1] for row in evaluation.rows] == [100, 100, 0]
    assert [row.map_at_r for row in evaluation.rows] == [100, 100, 0]
    assert [row.recall_at_1_interval for row in evaluation.rows] == [(100, 100), (100, 100), (0, 0)]
    adaptive, two, four = evaluation.rows
    assert (adaptive.mean_dim, adaptive.std_dim, adaptive.bytes_per_vector) == (1.5, 0.5, 4)
    assert (two.mean_dim, two.std_dim, two.bytes_per_vector, four.bytes_per_vector) == (2, 0, 4, 8)
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
    assert len(rows) == 7
    for name, (queries, gallery) in expected.items():
        metrics = retrieval_metrics(queries, gallery, labels, labels, exclude_self=True)
        assert rows[name].recall == {k: metrics.recall_at(k) for k in (1, 5, 10)}
        assert rows[name].map_at_r == pytest.approx(metrics.map_at_r)
    assert rows["raw pixels 32x32"].bytes_per_vector == 6144
    assert (evaluation.num_images, evaluation.num_classes, evaluation.num_left_out) == (151, 10, 1)
    assert sum(evaluation.bucket_shares.values()) == pytest.approx(1)


def test_intervals_hold_the_mean_and_shrink_with_more_queries():
    def widths_of(num):
        labels = [str(i % 10) for i in range(num)]
        row = evaluate(made_up_embeddings(labels), labels).rows[0]
        for value, (low, high) in (
            (row.recall[1], row.recall_at_1_interval),
            (row.map_at_r, row.map_at_r_interval),
        ):
            assert low < value < high
        # 1.96 standard errors of a share, either way.
        share = row.recall[1] / 100
        expected = 2 * 1.96 * 100 * np.sqrt(share * (1 - share) / num)
        low, high = row.recall_at_1_interval
        assert high - low == pytest.approx(expected, rel=0.15)
        return high - low

    assert widths_of(1600) < 0.7 * widths_of(400)


def test_same_embeddings_give_the_same_evaluation():
    labels = [str(i % 5) for i in range(60)]
    assert evaluate(made_up_embeddings(labels), labels) == evaluate(made_up_embeddings(labels), labels)


def test_dict_is_json_and_table_is_aligned():
    labels = ["x", "y", "z"] * 20
    evaluation = evaluate(made_up_embeddings(labels), labels, pixels=np.random.default_rng(0).random((60, 3072)))

    document = json.loads(json.dumps(evaluation.to_dict()))
    assert set(document["buckets"]) == {"32", "64", "128", "256", "512"}
    assert document["rows"][0]["recall@1"] == evaluation.rows[0].recall[1]
    assert document["rows"][3]["name"] == "fixed 128"

    lines = evaluation.table().splitlines()
    heading, body = lines[0], lines[1:8]
    assert "R@1" in heading and "mAP@R" in heading and "bytes" in heading
    assert {len(line) for line in body} == {len(heading)}
    assert body[0].startswith("adaptive") and body[6].startswith("raw pixels 32x32")
    assert f"{evaluation.rows[0].recall[1]:.1f}" in body[0]
    assert "60 images of 3 classes" in lines[-2] and "32: " in lines[-1]


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
    ],
)
def test_mistakes_are_named(embeddings, labels, options, message):
    with pytest.raises(UsageError) as caught:
        evaluate(embeddings, labels, **options)
    assert message in str(caught.value) and "\n" not in str(caught.value)
