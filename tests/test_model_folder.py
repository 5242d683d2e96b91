"""Where a model may be written, found out without writing anything."""

import os

import pytest

from retrieval.errors import UsageError
from ui import model_folder


def test_nothing_is_made(tmp_path, monkeypatch):
    model_folder.check(tmp_path)
    model_folder.check(tmp_path / "new" / "model")
    monkeypatch.chdir(tmp_path)
    model_folder.check(tmp_path.relative_to(tmp_path) / "model")
    assert not list(tmp_path.iterdir())


def test_places_that_are_no_folder(tmp_path, monkeypatch):
    file = tmp_path / "a.png"
    file.write_bytes(b"")
    for out in (file, file / "model"):
        with pytest.raises(
            UsageError, match=f"^expected --out to be a folder to write to, got {out}: {file} is a file"
        ):
            model_folder.check(out)
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(UsageError, match=f"got {tmp_path / 'model'}: no permission; name another$"):
        model_folder.check(tmp_path / "model")


def test_an_index_is_no_place_for_a_model(tmp_path):
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(
        UsageError, match=f"^expected --explain to be a folder .*, got {tmp_path}, which is an index; name another$"
    ):
        model_folder.check(tmp_path, "--explain")
    model_folder.check(tmp_path / "rankers" / "mine")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_model_is_gone_on_with_or_stays(tmp_path, name):
    model_folder.check_new(tmp_path)
    model_folder.check_resumable(tmp_path)
    (tmp_path / name).write_text("{}")
    with pytest.raises(UsageError, match=f"^expected --out without a model, got {tmp_path}, which holds one; name"):
        model_folder.check_new(tmp_path)
    with pytest.raises(
        UsageError, match=f"^expected --out without a model, or .*, got {tmp_path}, which holds a model"
    ):
        model_folder.check_resumable(tmp_path)
    (tmp_path / "checkpoint.pt").write_text("")
    model_folder.check_resumable(tmp_path)
    with pytest.raises(UsageError, match="which holds one"):
        model_folder.check_new(tmp_path)
