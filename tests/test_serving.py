"""`spyglass serve` as a process: its address, its key, and how it ends."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from toy import png, write_pngs

from indexer import Index
from retrieval import Embedder
from ui.cli import run

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """An index of the shipped model, which the process loads itself."""
    folder = tmp_path_factory.mktemp("serving")
    index = Index.create(folder / "few.index", Embedder.load())
    index.add(write_pngs(folder / "pictures", range(4)), num_workers=0)
    return index.path


@contextlib.contextmanager
def running(*arguments: str | Path, key: str = "") -> Iterator[tuple[subprocess.Popen, str]]:
    """A process that serves, and its address."""
    command = [sys.executable, "-m", "ui.cli", "serve", "--port", "0", *map(str, arguments)]
    environment = {**os.environ, "SPYGLASS_API_KEY": key}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **pipes)
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


def test_it_serves_and_ends_with_what_is_in_flight(folder):
    with running("--index", folder, key="s3cret") as (process, url):
        assert url.startswith("http://127.0.0.1:")
        assert httpx.get(f"{url}/v1/info").status_code == 401
        key = {"X-API-Key": "s3cret"}
        idle = httpx.Client(base_url=url, headers=key)  # keeps its connection
        hits = idle.post("/v1/search", files={"image": png(2)}).raise_for_status().json()["hits"]
        assert hits[0]["id"] == "002.png"

        request = httpx.Request("POST", f"{url}/v1/search", files={"image": png(3)}, headers=key)
        body = request.read()
        place = urlsplit(url)
        with socket.create_connection((place.hostname, place.port), timeout=20) as connection:
            head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
            connection.sendall(f"POST /v1/search HTTP/1.1\r\n{head}\r\n".encode() + body[:100])
            time.sleep(0.5)
            process.send_signal(signal.SIGTERM)
            told = time.monotonic()
            time.sleep(1)
            with pytest.raises(httpx.ConnectError):
                httpx.get(f"{url}/healthz")
            connection.sendall(body[100:])
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n") and b'"id":"003.png"' in answer
        assert process.wait(timeout=20) == 0
        assert time.monotonic() - told < 10
        assert process.stderr.read() == ""
        idle.close()


def test_it_does_not_wait_for_ever_for_what_is_in_flight(folder):
    with running("--index", folder) as (process, url):
        place = urlsplit(url)
        with socket.create_connection((place.hostname, place.port)) as connection:
            kind = "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 1000"
            connection.sendall(f"POST /v1/search HTTP/1.1\r\nHost: 127.0.0.1\r\n{kind}\r\n\r\n--x".encode())
            time.sleep(0.5)
            process.send_signal(signal.SIGTERM)
            told = time.monotonic()
            assert process.wait(timeout=20) == 0
            assert time.monotonic() - told < 10


@pytest.mark.slow
def test_pictures_added_by_another_process_are_found_without_a_failed_request(folder, tmp_path):
    index = shutil.copytree(folder, tmp_path / "grows.index")
    new = write_pngs(tmp_path / "new", range(100, 130))
    with running("--index", index) as (process, url), httpx.Client(base_url=url, timeout=30) as client:
        statuses, is_over = [], threading.Event()

        def ask_on_and_on() -> None:
            while not is_over.is_set():
                statuses.append(client.post("/v1/search", files={"image": png(1)}).status_code)
                time.sleep(0.2)

        asking = [threading.Thread(target=ask_on_and_on) for _ in range(3)]
        for thread in asking:
            thread.start()
        adding = [sys.executable, "-m", "ui.cli", "index", new, "--index", index]
        subprocess.run(adding, cwd=ROOT, check=True, capture_output=True, timeout=120)
        committed = time.monotonic()
        hits = []
        while not any(hit["id"] == "129.png" for hit in hits):
            hits = client.post("/v1/search", files={"image": png(129)}).raise_for_status().json()["hits"]
            assert time.monotonic() - committed < 5
        is_over.set()
        for thread in asking:
            thread.join()
        assert set(statuses) == {200}
        assert client.get("/v1/info").json()["images"] == 34
        process.terminate()
        assert process.wait(timeout=20) == 0 and process.stderr.read() == ""


class TestRefusals:
    @pytest.fixture(autouse=True)
    def no_key(self, monkeypatch):
        monkeypatch.setenv("SPYGLASS_API_KEY", "")

    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
    def test_an_address_for_others_needs_a_key(self, folder, capsys, host):
        assert run(["serve", "--index", str(folder), "--host", host, "--port", "0"]) == 2
        assert capsys.readouterr() == (
            "",
            f"error: expected an API key in SPYGLASS_API_KEY to listen on {host}, which other machines may reach, "
            "got none; set one, or leave --host at 127.0.0.1\n",
        )

    def test_no_index(self, tmp_path, capsys):
        assert run(["serve", "--index", str(tmp_path / "nothing")]) == 1
        assert capsys.readouterr().err.startswith(f"error: expected an index at {tmp_path / 'nothing'}, found none")

    def test_a_taken_port(self, folder, capsys):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            assert run(["serve", "--index", str(folder), "--port", port]) == 2
        assert capsys.readouterr().err == (
            f"error: expected to listen on port {port} of 127.0.0.1, but cannot: Address already in use; "
            "choose another --port\n"
        )

    @pytest.mark.parametrize("package", ["fastapi", "uvicorn", "prometheus_client", "python_multipart"])
    def test_without_the_extra(self, folder, capsys, monkeypatch, package):
        monkeypatch.setitem(sys.modules, package, None)
        assert run(["serve", "--index", str(folder)]) == 1
        assert capsys.readouterr().err == (
            f"error: expected the packages of an HTTP service, found no {package}; "
            "install them with: pip install 'spyglass-image-search[serve]'\n"
        )
