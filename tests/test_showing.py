"""The command `ui`: what is wrong is said in one line before anything starts."""

import socket
import sys

import pytest
from toy import ToyEmbedder

from indexer import Index
from ui import cli


@pytest.fixture
def index(tmp_path):
    return Index.create(tmp_path / "my.index", ToyEmbedder()).path


def complaint(capsys, *arguments) -> tuple[int, str]:
    code = cli.run(["ui", *map(str, arguments)])
    told = capsys.readouterr()
    assert told.out == "" and told.err.count("\n") == 1
    return code, told.err


def test_no_index(capsys, tmp_path):
    code, said = complaint(capsys, "--index", tmp_path / "none")
    assert code == 1 and said.startswith("error: expected an index at ")


def test_a_damaged_index(capsys, index):
    (index / "manifest.json").write_text("{")
    code, said = complaint(capsys, "--index", index)
    assert code == 1 and "manifest.json" in said


def test_a_port_that_is_taken(capsys, index):
    pytest.importorskip("streamlit", reason="expected the packages for the page")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, said = complaint(capsys, "--index", index, "--port", taken.getsockname()[1])
    assert code == 2 and said.startswith("error: expected to listen on port")


def test_an_address_of_another_machine(capsys, index):
    pytest.importorskip("streamlit", reason="expected the packages for the page")
    code, said = complaint(capsys, "--index", index, "--host", "no such host")
    assert code == 2 and said.startswith("error: expected --host as an address of this machine")


def test_without_streamlit(capsys, index, monkeypatch):
    for name in [name for name in sys.modules if name == "ui.page.server" or name.partition(".")[0] == "streamlit"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "streamlit", None)
    code, said = complaint(capsys, "--index", index)
    assert code == 1 and "pip install 'spyglass-image-search[ui]'" in said
