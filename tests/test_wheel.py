"""What is in the wheel, by its build settings: all that the packages read when they run, and nothing else."""

import re
from pathlib import Path

import pytest

hatchling_wheel = pytest.importorskip("hatchling.builders.wheel", reason="expected hatchling to ask what it would pack")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def packed() -> dict[str, Path]:
    """Where every file of the wheel comes from, by its place in it."""
    builder = hatchling_wheel.WheelBuilder(str(ROOT))
    return {file.distribution_path: Path(file.path) for file in builder.recurse_included_files()}


def test_the_packages_are_there_and_nothing_else(packed):
    own = {str(path.relative_to(ROOT)) for name in ("retrieval", "indexer", "ui") for path in sources(ROOT / name)}
    shipped = {f"retrieval/data/weights/{path.relative_to(ROOT / 'data' / 'weights')}" for path in weights()}
    assert packed.keys() == own | shipped | {"retrieval/data/sample_pictures.py"}


def test_what_is_read_at_run_time_is_there(packed):
    assert {"config.json", "model.safetensors"} <= {path.name for path in weights()}
    for path in ("config.json", "model.safetensors", "ranker/config.json", "ranker/model.safetensors"):
        assert packed[f"retrieval/data/weights/default/{path}"].stat().st_size > 0
    code = "\n".join(path.read_text() for path in (ROOT / "ui").rglob("*.py"))
    read = set(re.findall(r'"(\w+\.(?:js|css|svg))"', code))
    assert read == {path.name for path in (ROOT / "ui" / "page" / "parts").iterdir()} and "hit_grid.js" in read
    assert {f"ui/page/parts/{name}" for name in read} <= packed.keys()
    assert "ui/app.py" in packed  # which Streamlit runs by its path


def sources(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"]


def weights() -> list[Path]:
    return [path for path in (ROOT / "data" / "weights").rglob("*") if path.is_file()]
