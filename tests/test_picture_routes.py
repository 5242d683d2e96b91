"""Pictures over HTTP beside the page: by reference alone, and none from elsewhere."""

import asyncio
import io

import pytest
from PIL import Image
from toy import ToyEmbedder, png, write_coloured

pytest.importorskip("streamlit", reason="expected the packages for the page: pip install 'spyglass-image-search[ui]'")
import httpx  # noqa: E402
from starlette.applications import Starlette  # noqa: E402

from indexer import Index  # noqa: E402
from retrieval.errors import UsageError  # noqa: E402
from ui.page import server, uploads, workbench  # noqa: E402
from ui.page.picture_routes import picture_url, routes  # noqa: E402

OURS = {"x-spyglass": "1"}


class Client:
    """Asks an application in this process, one request at a time."""

    def __init__(self, app):
        self._app = app

    def get(self, path: str, **options) -> httpx.Response:
        return self._ask("GET", path, **options)

    def post(self, path: str, **options) -> httpx.Response:
        return self._ask("POST", path, **options)

    def _ask(self, method: str, path: str, **options) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(app=self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                return await client.request(method, path, **options)

        return asyncio.run(ask())


@pytest.fixture
def client(tmp_path):
    index = Index.create(tmp_path / "index", ToyEmbedder())
    index.add(write_coloured(tmp_path / "pictures", 2), num_workers=0)
    workbench.use(workbench.Workbench(index))
    return Client(Starlette(routes=routes(), middleware=server._guards("127.0.0.1")))


@pytest.mark.parametrize("kind", ["tile", "large", "attention"])
def test_a_picture_of_the_index(client, kind):
    answer = client.get(picture_url(kind, "red/0.png", 1))
    assert answer.status_code == 200 and answer.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(answer.content)).size == (40, 40)


@pytest.mark.parametrize("ref", ["../../etc/passwd", "/etc/passwd", "@" + "0" * 64, "", "<script>", "red/0.png\0"])
@pytest.mark.parametrize("kind", ["tile", "large", "attention"])
def test_what_is_no_picture_is_shown_as_such(client, kind, ref):
    answer = client.get(picture_url(kind, ref, 1))
    assert answer.status_code == 200 and answer.headers["content-type"] == "image/svg+xml"
    assert "cannot be read" in answer.text and "<script>" not in answer.text
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("kind", ["tile", "large", "attention"])
def test_what_was_never_indexed_is_not_shown_and_no_path_is_told(client, tmp_path, kind):
    indexed = tmp_path / "pictures" / "red" / "0.png"
    indexed.write_bytes(png(7))  # another picture has taken its place
    taken = client.get(picture_url(kind, "red/0.png", 1))
    indexed.unlink()
    gone = client.get(picture_url(kind, "red/0.png", 1))
    for answer in (taken, gone):
        assert answer.headers["content-type"] == "image/svg+xml" and "index again" in answer.text
        assert str(tmp_path) not in answer.text


def test_a_picture_is_given_and_shown(client):
    ref = client.post("/pictures", content=png(3), headers=OURS).json()["ref"]
    assert client.get(picture_url("tile", ref, 1)).headers["content-type"] == "image/jpeg"


@pytest.mark.parametrize(("data", "problem"), [(b"words", "expected a JPEG"), (b"", "got an empty file")])
def test_what_is_given_and_is_no_picture(client, data, problem):
    assert problem in client.post("/pictures", content=data, headers=OURS).json()["problem"]


async def _in_parts(num: int):
    for _ in range(num):
        yield bytes(500)


def test_a_picture_that_is_too_large(client, monkeypatch):
    declared = client.post("/pictures", content=b"", headers={**OURS, "content-length": str(2**40)})
    assert "at most 64 MB" in declared.json()["problem"]
    monkeypatch.setattr("ui.page.picture_routes.MAX_BYTES", 1000)
    streamed = client.post("/pictures", content=_in_parts(3), headers=OURS)
    assert "got a larger one" in streamed.json()["problem"] and uploads.MAX_BYTES == 64 * 2**20


def test_other_sites_give_nothing_and_see_nothing(client):
    assert client.post("/pictures", content=png(3)).status_code == 403
    assert client.get(picture_url("tile", "red/0.png", 1), headers={"host": "evil.example"}).status_code == 400


def test_a_free_port():
    port = server.free_port("127.0.0.1", 0)
    with server.listen("127.0.0.1", port), pytest.raises(UsageError, match=f"expected to listen on port {port}"):
        server.free_port("127.0.0.1", port)
    assert server.FIRST_PORT <= server.free_port("127.0.0.1", None) <= server.LAST_PORT
