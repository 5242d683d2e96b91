"""The README's own blocks, run in a folder that has what they speak of."""

import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import save_file

from retrieval import timm_weights
from retrieval.coatnet import CoAtNet

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def block(name: str) -> str:
    found = re.search(rf"<!-- run: {name} -->\n```\w+\n(.*?)```", README, re.DOTALL)
    assert found, f"no block marked {name} in README.md"
    return found[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """photos/boats/…, labelled/<kind>/… and query.jpg, drawn by the sample generator."""
    folder = tmp_path_factory.mktemp("readme")
    write_pictures = runpy.run_path(str(ROOT / "data" / "sample_pictures.py"))["write_pictures"]
    write_pictures(folder / "labelled", num_per_kind=3, size=128)
    kinds = sorted(path for path in (folder / "labelled").iterdir() if path.is_dir())
    for name, kind in zip(("boats", "other"), kinds, strict=False):
        (folder / "photos" / name).mkdir(parents=True)
        for number, picture in enumerate(sorted(kind.iterdir())):
            shutil.copy(picture, folder / "photos" / name / f"{number:02d}{picture.suffix}")
    shutil.copy(next(iter(sorted((folder / "photos" / "boats").iterdir()))), folder / "query.jpg")
    return folder


def test_the_python_example(folder):
    script = folder / "example.py"
    script.write_text(block("python"))
    run = subprocess.run(
        [sys.executable, "-W", "error", script], cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("6 added, 0 skipped\n")
    first = run.stdout.splitlines()[1].split()
    assert float(first[1]) > 0.99 and first[3].startswith("boats/")


def test_the_backbones(tmp_path, monkeypatch):
    config = timm_weights.CONFIGS["coatnet_nano_rw_224"]
    save_file(CoAtNet(config).state_dict(), tmp_path / "coatnet_nano_rw_224.safetensors")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(block("backbones"), names)
    assert names["features"].shape == (1, 512, 7, 7)


@pytest.mark.parametrize("name", ["shell", "feedback", "years", pytest.param("train", marks=pytest.mark.slow)])
def test_the_command_lines(folder, name, monkeypatch):
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:/usr/bin:/bin")
    for line in block(name).strip().splitlines():
        run = subprocess.run(["bash", "-c", line], cwd=folder, capture_output=True, text=True, timeout=300)
        assert run.returncode == 0, f"{line}\n{run.stderr}"
        assert run.stdout.strip(), line


def test_asking_the_service(folder):
    spyglass = [sys.executable, "-m", "ui.cli"]
    run = subprocess.run(
        [*spyglass, "index", folder / "photos", "--index", folder / "served.index", "--label-from", "parent"],
        cwd=ROOT,
        capture_output=True,
    )
    assert run.returncode == 0, run.stderr
    with subprocess.Popen(
        [*spyglass, "serve", "--index", folder / "served.index", "--port", "0"],
        cwd=ROOT,
        env={**os.environ, "SPYGLASS_API_KEY": ""},
        stdout=subprocess.PIPE,
        text=True,
    ) as service:
        try:
            address = service.stdout.readline().strip()
            script = folder / "ask.py"
            script.write_text(block("serve").replace("http://127.0.0.1:8000", address))
            run = subprocess.run([sys.executable, script], cwd=folder, capture_output=True, text=True, timeout=120)
        finally:
            service.terminate()
    assert service.returncode == 0
    assert run.returncode == 0, run.stderr
    assert [line.split()[1].startswith("boats/") for line in run.stdout.splitlines()] == [True] * 3
    assert len(list((folder / "served.index" / "feedback").iterdir())) == 1


def test_every_link_to_a_file_leads_somewhere():
    targets = [target for target in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in target]
    assert len(targets) > 5
    missing = [target for target in targets if not (ROOT / target).exists()]
    assert not missing
