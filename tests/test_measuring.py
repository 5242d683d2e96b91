"""`evaluate`, from the command line."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from toy import COLOURS, coloured, write_coloured

from retrieval.measuring.evaluation_table import Evaluation, EvaluationRow
from ui.cli import run
from ui.pictures.curve import draw_curve
from ui.pictures.drawing import ticks as round_numbers


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """labelled/<colour>/<number>.png"""
    return write_coloured(tmp_path_factory.mktemp("labelled"), 5)


def write_table(path, labels: list[str] | None):
    """Pictures as parquet, without a label column for None."""
    images = []
    for number, colour in enumerate([*COLOURS.values()] * 2):
        file = io.BytesIO()
        coloured(colour, number).save(file, "PNG")
        images.append(file.getvalue())
    columns = {"image": images} if labels is None else {"image": images, "label": labels}
    pq.write_table(pa.table(columns), path)
    return path


def test_the_whole_comparison(folders, tmp_path, capsys):
    curve = tmp_path / "pictures" / "curve.png"
    arguments = ["evaluate", "--data", str(folders), "--instance", "--oracle", "--curve", str(curve)]
    assert run([*arguments, "--json"]) == 0
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert report["model"] == "default" and report["images"] == 20 and report["classes"] == 4
    rows = {row["name"]: row for row in report["rows"]}
    mean = round(rows["adaptive"]["mean_dim"])
    assert list(rows) == [
        "adaptive",
        *(f"fixed {width}" for width in (32, 64, 128, 256, 512)),
        f"fixed at mean {mean}",
        "random dims",
        "energy dims",
        "oracle dims",
        "instance oracle dims",
        "raw pixels 32x32",
    ]
    assert rows["adaptive"]["recall@1"] > 50  # four colours: chance is 21
    assert rows["adaptive"]["instance_recall@1"] > 25  # chance is 5
    assert {"recall@5", "recall@10", "map@r", "map@100", "ndcg@100", "mrr"} <= rows["fixed 32"].keys()
    assert report["correlations"].keys() == {"bits_per_pixel", "edge_density"}
    assert sum(report["buckets"].values()) == pytest.approx(1)
    with Image.open(curve) as image:
        assert image.width > 1000 and image.mode == "RGB"


def test_text_of_several_sources(folders, tmp_path, capsys):
    more = write_table(tmp_path / "more.parquet", [*COLOURS] * 2)
    assert run(["evaluate", "--data", str(folders), str(more)]) == 0
    out = capsys.readouterr().out
    assert "28 images of 4 classes" in out and "adaptive" in out and "Spearman" in out and "original" not in out


@pytest.mark.parametrize("labels", [None, [f"icon {i}" for i in range(8)]], ids=["no column", "one each"])
def test_pictures_without_common_labels(labels, tmp_path, capsys):
    table = write_table(tmp_path / "icons.parquet", labels)
    assert run(["evaluate", "--data", str(table), "--instance", "--json"]) == 0
    adaptive = json.loads(capsys.readouterr().out)["rows"][0]
    assert "instance_recall@1" in adaptive and "recall@1" not in adaptive

    assert run(["evaluate", "--data", str(table)]) != 0
    captured = capsys.readouterr()
    assert captured.out == "" and len(captured.err.strip().splitlines()) == 1
    assert "label" in captured.err and ("--instance" in captured.err or labels is None)


def test_a_source_without_labels_leaves_the_classes_of_the_others(folders, tmp_path, capsys):
    more = write_table(tmp_path / "icons.parquet", None)
    assert run(["evaluate", "--data", str(folders), str(more), "--instance", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["images"], report["classes"]) == (28, 4)
    assert {"recall@1", "instance_recall@1"} <= report["rows"][0].keys()
    assert run(["evaluate", "--data", str(folders), str(more)]) == 1
    assert "expected columns 'image' and 'label'" in capsys.readouterr().err


def test_skipped_pictures_are_named_and_end_with_a_code_of_their_own(tmp_path, capsys):
    folders = write_coloured(tmp_path / "labelled", 2)
    (folders / "red" / "broken.png").write_bytes(b"no picture")
    curve = tmp_path / "curve.png"
    assert run(["evaluate", "--data", str(folders), "--curve", str(curve)]) == 3
    captured = capsys.readouterr()
    assert "8 images of 4 classes" in captured.out and curve.exists()
    assert captured.err.startswith(f"skipped {folders / 'red' / 'broken.png'}: expected a JPEG, PNG")


def test_mistakes_are_named_before_the_work_begins(folders, tmp_path, capsys):
    assert run(["evaluate", "--data", str(folders), "--curve", str(tmp_path / "curve.txt")]) == 2
    assert "expected a picture's name to end in .png" in capsys.readouterr().err
    assert run(["evaluate", "--data", str(tmp_path / "nowhere.parquet"), "--instance"]) == 1
    assert "nowhere.parquet" in capsys.readouterr().err


@pytest.mark.parametrize("low, high", [(0.2, 0.9), (49.7, 63.1), (0, 100), (97, 101.2), (3.1, 3.11)])
def test_ticks_are_round_and_few(low, high):
    ticks = round_numbers(low, high)
    assert 3 <= len(ticks) <= 10 and low <= ticks[0] and ticks[-1] <= high
    np.testing.assert_allclose(np.diff(ticks), ticks[1] - ticks[0])
    assert float(f"{ticks[1] - ticks[0]:.0e}"[0]) in (1, 2, 5)


def test_the_curve_is_where_the_figures_are():
    def row(name, kind, dim, value):
        measures = {"recall@1": value, "map@r": value / 2}
        return EvaluationRow(
            name=name,
            kind=kind,
            measures=measures,
            intervals={},
            adaptive_lead={},
            mean_dim=dim,
            std_dim=0,
            bytes_per_vector=0,
        )

    def orange_in(adaptive):
        rows = (row("adaptive", "adaptive", 64, adaptive), row("fixed 32", "fixed", 32, 40.0))
        rows += (row("fixed 128", "fixed", 128, 60.0), row("raw pixels 32x32", "pixels", 3072, 5.0))
        drawn = draw_curve(
            Evaluation(rows=rows, bucket_shares={}, num_images=9, num_classes=3, num_left_out=0), title="A test"
        )
        plot = np.asarray(drawn)[:480, : drawn.width // 2].astype(int)
        y, x = np.nonzero(np.abs(plot - np.array([0xD9, 0x62, 0x2B])).sum(axis=2) < 30)
        return y.mean(), x.mean()

    (high, x), (low, same_x) = orange_in(55.0), orange_in(45.0)
    assert low > high + 50 and x == pytest.approx(same_x, abs=1)
