"""`spyglass serve` as a process: its address, its key, and how it ends."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from toy import png, write_pngs

from indexer import Index
from retrieval import Embedder

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """An index of the shipped model, which the process loads itself."""
    folder = tmp_path_factory.mktemp("serving")
    index = Index.create(folder / "few.index", Embedder.load())
    index.add(write_pngs(folder / "pictures", range(4)), num_workers=0)
    return index.path


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "ui.cli", "serve", *map(str, arguments)]


def ended(*arguments: str | Path, **variables: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "SPYGLASS_API_KEY": "", **variables}
    return subprocess.run(command(*arguments), cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)


@contextlib.contextmanager
def running(*arguments: str | Path, **variables: str) -> Iterator[tuple[subprocess.Popen, str]]:
    environment = {**os.environ, "SPYGLASS_API_KEY": "", **variables}
    process = subprocess.Popen(
        command(*arguments), cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


def test_it_serves_and_ends_with_what_is_in_flight(folder):
    with running("--index", folder, "--port", "0") as (process, url):
        assert url.startswith("http://127.0.0.1:")
        idle = httpx.Client(base_url=url)  # keeps its connection
        hits = idle.post("/v1/search", files={"image": png(2)}).raise_for_status().json()["hits"]
        assert hits[0]["id"] == "002.png"

        request = httpx.Request("POST", f"{url}/v1/search", files={"image": png(3)})
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
    with running("--index", folder, "--port", "0") as (process, url):
        place = urlsplit(url)
        with socket.create_connection((place.hostname, place.port)) as connection:
            kind = "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 1000"
            connection.sendall(f"POST /v1/search HTTP/1.1\r\nHost: 127.0.0.1\r\n{kind}\r\n\r\n--x".encode())
            time.sleep(0.5)
            process.send_signal(signal.SIGTERM)
            told = time.monotonic()
            assert process.wait(timeout=20) == 0
            assert time.monotonic() - told < 10


def test_an_address_for_others_needs_a_key(folder):
    for host in ("0.0.0.0", "::", "192.0.2.1"):
        refused = ended("--index", folder, "--host", host, "--port", "0")
        assert (refused.returncode, refused.stdout) == (2, "")
        assert refused.stderr.startswith(f"error: expected an API key in SPYGLASS_API_KEY to listen on {host}, ")
        assert refused.stderr.count("\n") == 1


def test_the_key_is_that_of_the_environment(folder):
    with running("--index", folder, "--port", "0", SPYGLASS_API_KEY="s3cret") as (_, url):
        assert httpx.get(f"{url}/v1/info").status_code == 401
        assert httpx.get(f"{url}/v1/info", headers={"X-API-Key": "s3cret"}).json()["images"] == 4


def test_what_cannot_be_served(folder, tmp_path):
    nothing = ended("--index", tmp_path / "nothing")
    assert nothing.returncode == 1 and "expected an index at" in nothing.stderr
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        refused = ended("--index", folder, "--port", port)
    assert refused.returncode == 2
    assert refused.stderr == (
        f"error: expected to listen on port {port} of 127.0.0.1, but cannot: Address already in use; "
        "choose another --port\n"
    )


@pytest.mark.parametrize("package", ["fastapi", "uvicorn", "prometheus_client", "python_multipart"])
def test_without_the_extra(folder, package):
    script = f"import sys; sys.modules[{package!r}] = None; from ui.cli import run; sys.exit(run(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", script, "serve", "--index", folder], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert done.stderr == (
        f"error: expected the packages of an HTTP service, found no {package}; "
        "install them with: pip install 'spyglass-image-search[serve]'\n"
    )
