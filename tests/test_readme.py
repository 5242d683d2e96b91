"""The README's own blocks, run in a folder that has what they speak of."""

import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import Answer
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


WITHOUT_A_MODEL = {"info", "verify", "remove", "snapshots", "compact", "export"}


@pytest.mark.parametrize("name", ["shell", "feedback", "years", pytest.param("train", marks=pytest.mark.slow)])
def test_the_command_lines(folder, name, monkeypatch, spyglass):
    """In a shell where that is quick; the others, which would load torch and the model each time, in this process."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:/usr/bin:/bin")
    monkeypatch.chdir(folder)
    for line in block(name).strip().splitlines():
        program, *arguments = shlex.split(line, comments=True)
        assert program == "spyglass", line
        if arguments[0] in WITHOUT_A_MODEL:
            run = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=120)
            answer = Answer(run.returncode, run.stdout, run.stderr)
        else:
            answer = spyglass(*arguments)
        assert answer.code == 0, f"{line}\n{answer.err}"
        assert answer.out.strip(), line


def test_asking_the_service(folder, monkeypatch, spyglass, capsys):
    index = folder / "served.index"
    assert spyglass("index", folder / "photos", "--index", index, "--label-from", "parent").code == 0
    monkeypatch.setenv("SPYGLASS_API_KEY", "")
    monkeypatch.chdir(folder)
    command = [sys.executable, "-m", "ui.cli", "serve", "--index", index, "--port", "0"]
    with subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True
    ) as service:
        try:
            address = service.stdout.readline().strip()
            names = {}
            exec(block("serve").replace("http://127.0.0.1:8000", address), names)
            names["client"].close()
        finally:
            service.terminate()
    assert service.returncode == 0
    hits = capsys.readouterr().out.splitlines()
    assert [line.split()[1].startswith("boats/") for line in hits] == [True] * 3
    assert len(list((index / "feedback").iterdir())) == 1


def test_every_link_to_a_file_leads_somewhere():
    targets = [target for target in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in target]
    assert len(targets) > 5
    missing = [target for target in targets if not (ROOT / target).exists()]
    assert not missing
