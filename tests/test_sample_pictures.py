"""The sample pictures: known kinds, known complexity, the same bytes for the same seed."""

import csv
import re
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from interruptions import hears_ctrl_c
from PIL import Image

SCRIPT = Path(__file__).resolve().parents[1] / "data" / "sample_pictures.py"
NUM_PER_KIND = 2


@pytest.fixture(scope="module")
def module() -> dict:
    """The names of data/sample_pictures.py, run as the product runs it: from its path, without importing it."""
    return runpy.run_path(str(SCRIPT))


@pytest.fixture(scope="module")
def table(module, tmp_path_factory) -> Path:
    """The pictures.csv of a small set."""
    return module["write_pictures"](tmp_path_factory.mktemp("samples"), num_per_kind=NUM_PER_KIND)


@pytest.fixture(scope="module")
def rows(table) -> pd.DataFrame:
    """The table, with the size of each file in bits a pixel."""
    rows = pd.read_csv(table)
    return rows.assign(bits=[(table.parent / path).stat().st_size * 8 / 256**2 for path in rows["path"]])


def test_the_table_names_every_picture_of_thirty_kinds(table, rows):
    with open(table, newline="", encoding="utf-8") as file:
        assert next(csv.reader(file)) == ["path", "label", "complexity"]
    assert table.name == "pictures.csv"
    assert rows["label"].nunique() == 30
    assert (rows["label"].value_counts() == NUM_PER_KIND).all()
    wanted = [f"{label}/{label}-{number:02d}.jpg" for label in rows["label"].unique() for number in range(NUM_PER_KIND)]
    assert rows["path"].tolist() == wanted
    assert sorted(p.relative_to(table.parent).as_posix() for p in table.parent.rglob("*.jpg")) == sorted(wanted)


def test_ctrl_c_ends_the_drawing_at_once(tmp_path):
    # All that is to be drawn takes minutes, and is submitted from the start.
    command = [sys.executable, SCRIPT, tmp_path / "out", "--num-per-kind", "2000", "--size", "64"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hears_ctrl_c,
    ) as process:
        try:
            while not any(tmp_path.rglob("*.jpg")):
                assert process.poll() is None
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=20)
        finally:
            process.kill()
    assert (process.returncode, out) == (-signal.SIGINT, "") and err.endswith("KeyboardInterrupt\n")
    assert not (tmp_path / "out" / "pictures.csv").exists()


def test_every_kind_has_one_complexity_from_1_to_10(module, rows):
    stated = {kind.name: kind.complexity for kind in module["KINDS"]}
    assert dict(zip(rows["label"], rows["complexity"], strict=True)) == stated
    assert set(stated.values()) == set(range(1, 11))


def test_every_picture_is_a_square_that_is_not_blank(table, rows):
    for path in rows["path"]:
        with Image.open(table.parent / path) as picture:
            assert (picture.format, picture.mode, picture.size) == ("JPEG", "RGB", (256, 256))
            assert np.asarray(picture).std(axis=(0, 1)).max() > 5, path


def test_run_as_a_script_it_writes_the_same_bytes_for_the_same_seed(table, tmp_path):
    command = [sys.executable, str(SCRIPT), str(tmp_path), "--num-per-kind", "1", "--seed", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()) == tmp_path / "pictures.csv"
    written = sorted(tmp_path.rglob("*.jpg"))
    assert len(written) == 30
    for path in written:
        assert path.read_bytes() == (table.parent / path.relative_to(tmp_path)).read_bytes(), path.name


def test_another_seed_or_number_gives_another_picture(module):
    for kind in module["KINDS"]:
        first, again, number, seed = (
            np.asarray(module["draw_picture"](kind, number, size=32, seed=seed))
            for number, seed in ((0, 0), (0, 0), (1, 0), (0, 1))
        )
        assert np.array_equal(first, again), kind.name
        assert not np.array_equal(first, number), kind.name
        assert not np.array_equal(first, seed), kind.name


def test_the_stated_complexity_follows_the_bits_a_pixel(rows):
    assert rows[["complexity", "bits"]].rank().corr().loc["complexity", "bits"] >= 0.7
    by_complexity = rows.groupby("complexity")["bits"]
    assert by_complexity.max()[1] < by_complexity.min()[10]


def test_size_is_the_width_and_height(module):
    assert module["draw_picture"](module["KINDS"][0], 0, size=48).size == (48, 48)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_per_kind": 0}, "expected num_per_kind of at least 1, got 0"),
        ({"size": 8}, "expected a size of at least 16 pixels, got 8"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_anything_is_written(module, tmp_path, options, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        module["write_pictures"](tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_the_script_says_what_is_wrong_without_a_traceback(tmp_path):
    command = [sys.executable, str(SCRIPT), str(tmp_path / "out"), "--num-per-kind", "0"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith("error: expected num_per_kind of at least 1, got 0")
