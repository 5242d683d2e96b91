"""The HTTP service: what it answers, whom it refuses, and what it withstands."""

import asyncio
import contextlib
import io
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from urllib.parse import quote

import httpx
import pytest
import uvicorn
from PIL import Image
from toy import ToyEmbedder, png, write_pngs

from indexer import Index
from retrieval.errors import BusyError, DamagedError, UsageError
from ui.server import create_app
from ui.server_process import uvicorn_config
from ui.service import timed_connection
from ui.service.bounded_threads import BoundedThreads
from ui.service.config import ServiceConfig
from ui.service.fresh_index import FreshIndex
from ui.service.listening import is_loopback, listen, url_of
from ui.service.query_batches import QueryBatches
from ui.service.request_limits import RateLimit

NUM_IMAGES = 20
SLASHED = "in a folder/über #1?.png"


@contextlib.contextmanager
def served(index: Index, **settings) -> Iterator[httpx.Client]:
    """A client of a service on a free loopback port, run in a thread by the real HTTP server."""
    server = uvicorn.Server(uvicorn_config(create_app(index, ServiceConfig(**settings))))
    with listen("127.0.0.1", 0) as listening:
        url = url_of(listening)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            with httpx.Client(base_url=url, timeout=30) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join(20)
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> Index:
    folder = tmp_path_factory.mktemp("served")
    write_pngs(folder / "pictures", range(NUM_IMAGES))
    slashed = folder / "pictures" / SLASHED
    slashed.parent.mkdir()
    slashed.write_bytes(png(99))
    index = Index.create(folder / "toy.index", ToyEmbedder())
    index.add(folder / "pictures", label_from="parent", num_workers=0)
    return index


@pytest.fixture(scope="module")
def client(index) -> Iterator[httpx.Client]:
    with served(index, api_key="a key") as client:
        client.headers["X-API-Key"] = "a key"
        yield client


def error_of(response: httpx.Response) -> str:
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert body.keys() == {"error"} and "\n" not in body["error"]
    return body["error"]


def test_an_upload_finds_what_the_index_finds(index, client):
    hits = client.post("/v1/search", files={"image": png(3)}, data={"k": 4}).raise_for_status().json()["hits"]
    expected = index.search(png(3), top_k=4)
    assert [hit["id"] for hit in hits] == [hit.id for hit in expected]
    assert [hit["score"] for hit in hits] == pytest.approx([hit.score for hit in expected], abs=1e-6)
    assert hits[0] == {
        "rank": 1,
        "id": "003.png",
        "names": [],
        "score": hits[0]["score"],
        "similarity": pytest.approx(1.0, abs=1e-3),
        "dim": expected[0].dim,
        "label": expected[0].label,
        "similarity_rank": expected[0].similarity_rank,
        "columns": {},
        "image": "/v1/images/003.png",
        "thumbnail": "/v1/thumbnails/003.png",
    }


def test_where_files_lie_is_not_told(index, client):
    for answer in (
        client.post("/v1/search", data={"id": "003.png"}),
        client.get("/v1/info"),
        client.get("/openapi.json"),
        client.post("/v1/search", data={"id": str(index.path)}),
    ):
        assert str(index.path.parent) not in answer.text.replace(repr(str(index.path)), "")


def test_an_id_is_as_good_as_its_picture(client):
    by_id = client.post("/v1/search", data={"id": "003.png"}).json()["hits"]
    assert by_id == client.post("/v1/search", files={"image": png(3)}).json()["hits"]
    assert len(by_id) == 10


def test_recommend(index, client):
    wanted = {"positives": ["001.png", "002.png"], "negatives": ["003.png"], "k": 5}
    hits = client.post("/v1/recommend", json=wanted).raise_for_status().json()["hits"]
    expected = index.search([png(1), png(2)], subtract=[png(3)], top_k=5)
    assert [hit["id"] for hit in hits] == [hit.id for hit in expected]


@pytest.mark.parametrize(
    "options",
    [
        {"min_score": 0.2, "rerank": 0, "k": NUM_IMAGES},
        {"offset": 3, "k": 4},
        {"filters": {"id": {"in": ["001.png", "002.png"]}, "width": {"gte": 64}}},
        {"group_by": "label", "group_size": 2},
        {"diverse": 0.7, "k": 5},
    ],
    ids=lambda options: next(iter(options)),
)
def test_what_is_asked_is_handed_on(index, client, options):
    names = {"k": "top_k", "filters": "where"}
    expected = index.search(png(3), **{names.get(name, name): value for name, value in options.items()})
    form = options | ({"filters": json.dumps(options["filters"])} if "filters" in options else {})
    for hits in (
        client.post("/v1/search", files={"image": png(3)}, data=form).json()["hits"],
        client.post("/v1/recommend", json={"positives": ["003.png"], **options}).json()["hits"],
    ):
        assert [(hit["rank"], hit["id"]) for hit in hits] == [(hit.rank, hit.id) for hit in expected]
    assert 0 < len(hits) < NUM_IMAGES


def test_a_picture_is_served_as_it_was_indexed_and_cached(client):
    hit = client.post("/v1/search", files={"image": png(99)}, data={"k": 1}).json()["hits"][0]
    assert hit["id"] == SLASHED
    response = client.get(hit["image"]).raise_for_status()
    assert response.content == png(99)
    assert response.headers["content-type"] == "image/png"
    assert response.headers["x-content-type-options"] == "nosniff"
    again = client.get(hit["image"], headers={"If-None-Match": response.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    # Slashes may be quoted or not.
    assert client.get(f"/v1/images/{quote(SLASHED, safe='')}").content == png(99)


def test_thumbnails(client):
    for size in (160, 320, 640):
        response = client.get("/v1/thumbnails/003.png", params={"size": size}).raise_for_status()
        assert response.headers["content-type"] == "image/jpeg"
        assert Image.open(io.BytesIO(response.content)).size == (64, 64)  # none is enlarged
    assert client.get("/v1/thumbnails/003.png").headers["etag"] != response.headers["etag"]
    again = client.get("/v1/thumbnails/003.png?size=640", headers={"If-None-Match": f"W/{response.headers['etag']}"})
    assert again.status_code == 304
    assert "size" in error_of(client.get("/v1/thumbnails/003.png", params={"size": 5000}))


def test_a_file_that_took_a_pictures_place_is_not_served(tmp_path):
    pictures = write_pngs(tmp_path / "pictures", range(3))
    index = Index.create(tmp_path / "toy.index", ToyEmbedder())
    index.add(pictures, num_workers=0)
    (pictures / "001.png").write_text("a secret")
    (pictures / "002.png").unlink()
    with served(index) as client:
        for path in ("/v1/images/001.png", "/v1/thumbnails/001.png", "/v1/images/002.png", "/v1/thumbnails/002.png"):
            response = client.get(path)
            assert response.status_code == 410 and "secret" not in response.text
            assert error_of(response).startswith("expected the picture that was indexed")
        # Their vectors are there yet.
        assert client.post("/v1/search", data={"id": "001.png"}).json()["hits"][0]["id"] == "001.png"
        assert client.post("/v1/recommend", json={"positives": ["002.png"]}).json()["hits"][0]["id"] == "002.png"
        assert client.get("/v1/images/000.png").content == png(0)


def test_feedback_is_kept(index, client):
    said = {"id": "004.png", "relevant": "true", "user": "ann"}
    by_id = client.post("/v1/feedback", data=said | {"query_id": "003.png"})
    assert by_id.status_code == 201
    uploaded = client.post("/v1/feedback", data=said | {"relevant": "false"}, files={"query_image": png(500)})
    rows = index.feedback("ann").to_dict("records")
    assert [(row["query"], row["image"], row["relevant"]) for row in rows] == [
        ("003.png", "004.png", True),
        (uploaded.json()["query"], "004.png", False),
    ]
    assert by_id.json() == {
        "query": "003.png",
        "id": "004.png",
        "relevant": True,
        "user": "ann",
        "when": rows[0]["when"],
    }


def test_info_health_and_metrics(index, client):
    info = client.get("/v1/info").json()
    assert info["images"] == NUM_IMAGES + 1 and info["version"] == index.version and info["model"] == "toy"
    assert client.get("/healthz").json() == {"status": "ok"}
    client.get("/v1/images/nothing/here")
    lines = client.get("/metrics").text.splitlines()
    assert 'spyglass_requests_total{method="GET",route="/v1/images/{id:path}",status="404"} 1.0' in lines
    assert f"spyglass_index_images {NUM_IMAGES + 1}.0" in lines


@pytest.mark.parametrize(
    ("data", "files", "message"),
    [
        ({}, None, "expected image or id, got neither"),
        ({"id": "003.png"}, {"image": png(3)}, "expected image or id, got both"),
        ({"id": "003.png", "k": "0"}, None, "expected a valid k, got '0'"),
        ({"id": "003.png", "k": "1001"}, None, "expected a valid k, got '1001'"),
        ({"id": "003.png", "offset": "10001"}, None, "expected a valid offset"),
        ({"id": "003.png", "min_score": "nan"}, None, "expected a valid min_score"),
        ({"id": "003.png", "filter": "{}"}, None, "expected a valid filter"),
        ({"id": "003.png", "filters": "label = 'x'"}, None, "expected a valid filters"),
        ({"id": "003.png", "filters": "[" * 15_000}, None, "expected a valid filters"),
        ({"id": "003.png", "filters": '{"labels": "x"}'}, None, "did you mean 'label'?"),
        ({"id": "003.png", "filters": '{"uri": {"starts_with": "/"}}'}, None, "where files lie is not told"),
        ({"id": "003.png", "group_by": "uri"}, None, "where files lie is not told"),
        ({"id": "003.png", "filters": '{"listed_in": {"starts_with": "/"}}'}, None, "where files lie is not told"),
        ({"id": "003.png", "group_by": "listed_in"}, None, "where files lie is not told"),
        ({"id": "003.png", "group_by": "price"}, None, "expected a column"),
        ({"id": "003.png", "group_size": "2"}, None, "expected group_size together with group_by"),
        ({"id": "003.png", "diverse": "1.5"}, None, "expected a valid diverse"),
        ({"image": "http://127.0.0.1/a.png"}, None, "expected a valid image"),
        ({"id": "003.png", "ranker": "/etc"}, None, "expected a valid ranker"),
        ({}, {"image": b""}, "expected a picture, got an empty file"),
        ({}, {"image": b"no picture"}, "expected a JPEG"),
    ],
)
def test_wrong_requests_are_told_so(client, data, files, message):
    response = client.post("/v1/search", data=data, files=files)
    assert response.status_code == 422
    assert message in error_of(response) and "Value error" not in error_of(response)


def test_a_wrong_form_is_told_so_in_a_few_words(client):
    assert error_of(client.post("/v1/search", data={})) == "expected image or id, got neither"
    judged = client.post("/v1/feedback", data={"id": "003.png", "relevant": "true"})
    assert error_of(judged) == "expected query_image or query_id, got neither"


def test_no_error_names_the_columns_that_say_where_files_lie(tmp_path):
    write_pngs(tmp_path / "pictures", range(3))
    (tmp_path / "list.csv").write_text("path\npictures/000.png\npictures/001.png\n")
    index = Index.create(tmp_path / "toy.index", ToyEmbedder())
    index.add(tmp_path / "list.csv", num_workers=0)
    assert index.column_names()[-1] == "listed_in"
    image_id = index.catalog()["id"][0]
    with served(index) as client:
        for options in ({"filters": {"labels": "x"}}, {"group_by": "price"}, {"group_by": "listed_inn"}):
            response = client.post("/v1/recommend", json={"positives": [image_id], **options})
            assert "expected a column, one of id, sha256, width" in error_of(response)
            assert not {"uri", "listed_in"} & {*re.findall(r"\w+", error_of(response))}


@pytest.mark.parametrize("path", ["/v1/images/003.png", "/v1/thumbnails/003.png", "/v1/info", "/healthz", "/metrics"])
def test_head_tells_what_get_would_send(client, path):
    head, whole = client.head(path), client.get(path)
    assert (head.status_code, head.content) == (200, b"") and whole.content
    for name in ("content-type", "etag"):
        assert head.headers.get(name) == whole.headers.get(name)
    if "/v1/" in path:
        assert head.headers["content-length"] == str(len(whole.content))


TRAVERSALS = [
    "../../../../etc/passwd",
    "/etc/passwd",
    "..%2f..%2fetc%2fpasswd",
    "file:///etc/passwd",
    "http://127.0.0.1:1/x.png",
    "003.png/../../../etc/passwd",
    "./003.png",
    "C:\\Windows\\win.ini",
    "\\\\host\\share",
    "003.png\0.txt",
    "toy.index/manifest.json",
]


@pytest.mark.parametrize("name", TRAVERSALS)
def test_no_path_is_taken_from_a_client(index, client, name):
    uri = index.row("003.png")["uri"]
    for text in (name, uri, f"{index.path}/manifest.json"):
        answers = [
            client.post("/v1/search", data={"id": text}),
            client.post("/v1/recommend", json={"positives": [text]}),
            client.post("/v1/recommend", json={"positives": ["003.png"], "negatives": [text]}),
            client.post("/v1/feedback", data={"id": text, "query_id": "003.png", "relevant": "true"}),
            client.post("/v1/feedback", data={"id": "003.png", "query_id": text, "relevant": "true"}),
            raw_get(client, f"/v1/images/{quote(text, safe='')}"),
            raw_get(client, f"/v1/thumbnails/{quote(text, safe='')}"),
            raw_get(client, f"/v1/images/{text.replace(' ', '%20')}") if text.isprintable() else None,
        ]
        for answer in filter(None, answers):
            assert answer.status_code in (404, 422), (text, answer.text)
            assert "root:" not in answer.text


def raw_get(client: httpx.Client, path: str) -> httpx.Response:
    """As written: httpx would tidy up dots."""
    url = client.base_url
    lines = [
        f"GET {path} HTTP/1.1",
        "Host: 127.0.0.1",
        "Connection: close",
        f"X-API-Key: {client.headers['X-API-Key']}",
    ]
    request = "".join(f"{line}\r\n" for line in [*lines, ""])
    with socket.create_connection((url.host, url.port)) as connection:
        connection.sendall(request.encode())
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = received.partition(b"\r\n\r\n")
    return httpx.Response(int(head.split()[1]), content=body)


class TestKey:
    def test_the_right_key_in_either_header(self, index):
        with served(index, api_key="k3y") as client:
            assert client.get("/v1/info", headers={"X-API-Key": "k3y"}).status_code == 200
            assert client.get("/v1/info", headers={"Authorization": "Bearer k3y"}).status_code == 200

    @pytest.mark.parametrize(
        "headers",
        [{}, {"X-API-Key": "k3"}, {"X-API-Key": "k3yy"}, {"Authorization": "Basic k3y"}, {"X-API-Key": b"\xff\xfe"}],
    )
    def test_another_or_none(self, client, headers):
        for method, path in (("GET", "/v1/info"), ("POST", "/v1/search"), ("GET", "/metrics"), ("GET", "/no/such")):
            response = httpx.request(method, client.base_url.join(path), headers=headers)
            assert response.status_code == 401
            assert response.headers["www-authenticate"] == "Bearer"
            assert "expected the API key" in error_of(response)

    def test_health_needs_none(self, client):
        assert httpx.get(client.base_url.join("/healthz"), headers={"Host": "elsewhere.example"}).status_code == 200

    def test_without_a_key_only_a_loopback_name_will_do(self, index):
        with served(index) as client:
            port = client.base_url.port
            for host in ("127.0.0.1", "localhost", f"LOCALHOST:{port}", f"[::1]:{port}"):
                assert client.get("/v1/info", headers={"Host": host}).status_code == 200
            for host in ("spyglass.example", f"127.0.0.1.example:{port}", "localhost.example"):
                assert client.get("/v1/info", headers={"Host": host}).status_code == 403

    @pytest.mark.parametrize("key", ["", "ü", "two\nlines"])
    def test_a_key_that_no_header_could_hold(self, key):
        with pytest.raises(UsageError, match="^expected an API key of printable ASCII"):
            ServiceConfig(api_key=key)


class TestLimits:
    def test_a_declared_gigabyte_is_refused_unread(self, index):
        with served(index) as client:
            head = "POST /v1/search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1073741824\r\n\r\n"
            status, body = told(client, head.encode())
        assert status == 413 and b"expected a body of at most 20,971,520 bytes, got 1,073,741,824" in body

    def test_a_body_without_a_length_is_cut_off(self, index):
        def chunks() -> Iterator[bytes]:
            for _ in range(1000):
                yield bytes(10_000)

        with served(index, max_upload_bytes=50_000) as client:
            for kind in ("application/json", "multipart/form-data; boundary=x"):
                path = "/v1/search" if "multipart" in kind else "/v1/recommend"
                with contextlib.suppress(httpx.WriteError, httpx.ReadError):  # it hung up, as it should
                    response = client.post(path, content=chunks(), headers={"Content-Type": kind})
                    assert response.status_code in (400, 413)
            assert client.get("/v1/info").status_code == 200

    def test_a_body_that_does_not_come(self, index):
        with served(index, body_seconds=0.3) as client:
            kind = "Content-Type: multipart/form-data; boundary=x"
            head = f"POST /v1/search HTTP/1.1\r\nHost: 127.0.0.1\r\n{kind}\r\nContent-Length: 100\r\n\r\n--x"
            started = time.monotonic()
            status, body = told(client, head.encode())
            assert status == 408 and b"within 0.3 s, got 3 bytes" in body
            assert time.monotonic() - started < 5

    def test_too_much_at_once(self, index):
        with served(index, max_bytes_at_once=5000) as client:
            response = client.post("/v1/search", files={"image": bytes(6000)})
            assert response.status_code == 503 and response.headers["retry-after"] == "1"
            assert client.post("/v1/search", files={"image": png(1)}).status_code == 200  # it was given back

    def test_pixels(self, index):
        with served(index, max_pixels=64 * 64 - 1) as client:
            response = client.post("/v1/search", files={"image": png(1)})
            assert response.status_code == 422
            assert error_of(response) == "expected at most 4,095 pixels, got 4,096; send a smaller copy"

    def test_more_than_may_wait_are_told_to_come_back(self, index):
        embedder = HeldEmbedder()
        held = Index.open(index.path, embedder)
        with served(held, max_waiting=2, max_batch=1) as client, ThreadPoolExecutor(3) as threads:

            def ask(seed: int) -> Future[httpx.Response]:
                return threads.submit(client.post, "/v1/search", files={"image": png(seed)})

            embedder.hold()
            asked = [ask(1)]
            assert embedder.is_asked.wait(20)  # the model is busy with the first,
            for seed in (2, 3):
                asked.append(ask(seed))
                wait_for_waiting(client, len(asked) - 1)  # and two fill the queue
            for seed in range(4, 9):
                refused = client.post("/v1/search", files={"image": png(seed)})
                assert refused.status_code == 503 and refused.headers["retry-after"] == "1"
                assert error_of(refused) == "expected at most 2 queries to wait, got more; come back later"
            embedder.go_on()
            answers = [one.result(20) for one in asked]
            assert [answer.status_code for answer in answers] == [200, 200, 200]
            assert [answer.json()["hits"][0]["id"] for answer in answers] == ["001.png", "002.png", "003.png"]
            assert client.post("/v1/search", files={"image": png(4)}).status_code == 200

    def test_rate(self, index):
        with served(index, requests_per_second=0.5, burst=3) as client:
            answers = [client.get("/v1/info") for _ in range(4)]
            assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
            assert answers[-1].headers["retry-after"] == "2"
            assert "at most 0.5 requests a second" in error_of(answers[-1])
            assert client.get("/healthz").status_code == 200

    def test_a_token_bucket_by_hand(self):
        limit = RateLimit(2.0, burst=2)
        waits = [limit.seconds_to_wait("a", now) for now in (0.0, 0.0, 0.0, 0.25, 0.5, 0.5, 10.0, 10.0, 10.0)]
        assert waits == [0.0, 0.0, 0.5, 0.25, 0.0, 0.5, 0.0, 0.0, 0.5]
        assert limit.seconds_to_wait("b", 0.0) == 0.0

    def test_clients_beyond_count_are_forgotten(self, monkeypatch):
        monkeypatch.setattr(RateLimit, "MOST_CLIENTS", 2)
        limit = RateLimit(1.0, burst=1)
        assert [limit.seconds_to_wait(name, 0.0) for name in "abca"] == [0.0, 0.0, 0.0, 0.0]

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"max_upload_bytes": 0}, "expected max_upload_bytes of at least 1, got 0"),
            ({"batch_milliseconds": -1}, "expected batch_milliseconds of at least 0, got -1"),
            ({"requests_per_second": float("nan")}, "expected requests_per_second of at least 0, got nan"),
            ({"poll_seconds": 0}, "expected poll_seconds above 0, got 0"),
        ],
    )
    def test_settings_that_make_no_sense(self, settings, message):
        with pytest.raises(UsageError, match=f"^{message}$"):
            ServiceConfig(**settings)


class TestSilence:
    """Clients that keep a connection and neither ask nor take what they asked for."""

    def test_who_asks_nothing_is_hung_up_on(self, index, monkeypatch):
        monkeypatch.setattr(timed_connection, "REQUEST_SECONDS", 0.2)
        with served(index) as client:
            for begun in (b"", b"GET /healthz HTT"):
                with socket.create_connection((client.base_url.host, client.base_url.port), timeout=10) as connection:
                    connection.sendall(begun)
                    assert connection.recv(100) == b""
            assert client.get("/healthz").status_code == 200

    def test_who_takes_nothing_is_hung_up_on(self, tmp_path, monkeypatch):
        monkeypatch.setattr(timed_connection, "STALL_SECONDS", 0.3)
        (tmp_path / "pictures").mkdir()
        large = tmp_path / "pictures" / "large.bmp"
        Image.effect_noise((4000, 3000), 50).save(large)
        index = Index.create(tmp_path / "toy.index", ToyEmbedder())
        index.add(large.parent, num_workers=0)
        with served(index) as client:
            assert client.get("/v1/images/large.bmp").content == large.read_bytes()
            with socket.socket() as connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                connection.settimeout(10)
                connection.connect((client.base_url.host, client.base_url.port))
                connection.sendall(b"GET /v1/images/large.bmp HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                time.sleep(1.5)
                num_bytes = 0
                with contextlib.suppress(ConnectionResetError):
                    while piece := connection.recv(65_536):
                        num_bytes += len(piece)
            assert num_bytes < large.stat().st_size


class HeldEmbedder(ToyEmbedder):
    """A model that, once told to hold, has its next pictures wait until it may go on."""

    def __init__(self):
        super().__init__()
        self.is_asked, self._may_go_on = threading.Event(), threading.Event()
        self._may_go_on.set()

    def hold(self) -> None:
        self._may_go_on.clear()
        self.is_asked.clear()

    def go_on(self) -> None:
        self._may_go_on.set()

    def encode_pixels(self, *arguments, **options):
        self.is_asked.set()
        assert self._may_go_on.wait(60)
        return super().encode_pixels(*arguments, **options)


def wait_for_waiting(client: httpx.Client, num_queries: int) -> None:
    """Until so many queries wait for the model."""
    deadline = time.monotonic() + 20
    while f"spyglass_queries_waiting {num_queries}.0" not in client.get("/metrics").text.splitlines():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def told(client: httpx.Client, request: bytes) -> tuple[int, bytes]:
    """Status and body of what the service says before it hangs up, to a request that is written by hand."""
    with socket.create_connection((client.base_url.host, client.base_url.port), timeout=20) as connection:
        connection.sendall(request)
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"connection: close" in head.lower()
    return int(head.split()[1]), body


class TestBatches:
    @staticmethod
    def ask_all(batches: QueryBatches, questions) -> list:
        async def run() -> list:
            return await asyncio.gather(*map(batches.ask, questions), return_exceptions=True)

        try:
            return asyncio.run(run())
        finally:
            batches.close()

    def test_questions_at_once_are_answered_together(self):
        sizes = []
        batches = QueryBatches(
            lambda asked: [10 * one for one in asked],
            window_seconds=0.3,
            max_batch=4,
            max_waiting=100,
            on_batch=sizes.append,
        )
        assert self.ask_all(batches, range(10)) == [10 * one for one in range(10)]
        assert sizes == [4, 4, 2]

    def test_batching_off(self):
        sizes = []
        batches = QueryBatches(list, window_seconds=0, max_batch=1, max_waiting=100, on_batch=sizes.append)
        assert self.ask_all(batches, range(5)) == [0, 1, 2, 3, 4]
        assert sizes == [1] * 5

    def test_an_exception_reaches_the_one_it_is_for(self):
        batches = QueryBatches(
            lambda asked: [ValueError(one) if one == 1 else one for one in asked],
            window_seconds=0.1,
            max_batch=9,
            max_waiting=9,
        )
        first, second, third = self.ask_all(batches, range(3))
        assert (first, third) == (0, 2) and isinstance(second, ValueError)

    def test_one_that_breaks_does_not_end_the_thread(self):
        def answer(asked):
            return [1 / one for one in asked]

        batches = QueryBatches(answer, window_seconds=0, max_batch=1, max_waiting=9)
        first, second = self.ask_all(batches, [0, 2])
        assert isinstance(first, ZeroDivisionError) and second == 0.5

    def test_more_than_may_wait_are_refused(self):
        go_on = threading.Event()

        def answer(asked):
            go_on.wait(10)
            return asked

        batches = QueryBatches(answer, window_seconds=0, max_batch=1, max_waiting=2)

        async def run() -> list:
            busy = asyncio.ensure_future(batches.ask("busy"))
            await asyncio.sleep(0.1)  # time enough for the thread to take it
            waiting = [asyncio.ensure_future(batches.ask(name)) for name in "abc"]
            await asyncio.sleep(0.05)
            go_on.set()
            return await asyncio.gather(busy, *waiting, return_exceptions=True)

        busy, first, second, third = asyncio.run(run())
        batches.close()
        assert (busy, first, second) == ("busy", "a", "b")
        assert isinstance(third, BusyError) and str(third).startswith("expected at most 2 queries to wait, got more")

    def test_who_has_gone_is_not_answered(self):
        answered = []
        batches = QueryBatches(
            lambda asked: answered.extend(asked) or asked, window_seconds=0.2, max_batch=9, max_waiting=9
        )

        async def run() -> None:
            leaving = asyncio.ensure_future(batches.ask("gone"))
            await asyncio.sleep(0.05)
            leaving.cancel()
            await batches.ask("there")

        asyncio.run(run())
        batches.close()
        assert answered == ["there"]

    def test_threads_take_no_more_than_they_may(self):
        go_on = threading.Event()

        async def run() -> list:
            threads = BoundedThreads(1, max_waiting=1)
            calls = [asyncio.ensure_future(threads.run(go_on.wait, 10)) for _ in range(3)]
            await asyncio.sleep(0.05)
            go_on.set()
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert await threads.run(len, "four") == 4 and threads.num_calls == 0
            threads.close()
            return results

        first, second, third = asyncio.run(run())
        assert first and second and isinstance(third, BusyError)


def test_many_clients_get_their_own_answers(index):
    with served(index, batch_milliseconds=20) as client:
        answers: dict[int, list[dict]] = {}

        def ask(seed: int) -> None:
            data = {"k": 1 + seed % 3, "rerank": 0} if seed % 2 else {"k": 1 + seed % 3}
            response = client.post("/v1/search", files={"image": png(seed)}, data=data)
            answers[seed] = response.raise_for_status().json()["hits"]

        threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(NUM_IMAGES)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        sizes = [
            line for line in client.get("/metrics").text.splitlines() if line.startswith("spyglass_batch_size_count")
        ]
    for seed, hits in answers.items():
        assert [hit["id"] for hit in hits][:1] == [f"{seed:03d}.png"]
        assert len(hits) == 1 + seed % 3
    assert float(sizes[0].split()[1]) < NUM_IMAGES


def test_new_images_are_found_without_a_failed_request(tmp_path):
    pictures = write_pngs(tmp_path / "pictures", range(5))
    index = Index.create(tmp_path / "toy.index", ToyEmbedder())
    index.add(pictures, num_workers=0)
    with served(index, poll_seconds=0.1) as client:
        failed, is_over = [], threading.Event()

        def ask_on_and_on() -> None:
            while not is_over.is_set():
                response = client.post("/v1/search", data={"id": "003.png"})
                if response.status_code != 200:
                    failed.append(response.text)

        asking = threading.Thread(target=ask_on_and_on)
        asking.start()
        writer = Index.open(index.path, ToyEmbedder())
        for number in range(5, 10):
            write_pngs(pictures, range(number, number + 1))
            writer.add(pictures, num_workers=0)
            committed = time.monotonic()
            while (
                client.post("/v1/search", files={"image": png(number)}).json()["hits"][0]["id"] != f"{number:03d}.png"
            ):
                assert time.monotonic() - committed < 5
        is_over.set()
        asking.join()
        assert not failed
        assert client.get("/v1/info").json()["images"] == 10


def test_a_newer_snapshot_that_cannot_be_read_leaves_the_one_in_use(caplog):
    class Snapshot:
        embedder = ToyEmbedder()

        def __init__(self, *newer):
            self.to_come = list(newer)
            self.searches = 0

        def search(self, query, top_k):
            self.searches += 1

        def newer(self):
            next_one = self.to_come.pop(0) if self.to_come else None
            if isinstance(next_one, Exception):
                raise next_one
            return next_one

    good = Snapshot()
    first = Snapshot(None, DamagedError("expected a manifest"), DamagedError("expected a manifest"), good)
    fresh = FreshIndex(first, poll_seconds=0.01)
    try:
        deadline = time.monotonic() + 5
        while fresh.current is first and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        fresh.close()
    assert fresh.current is good and (first.searches, good.searches) == (1, 1)  # it was warmed before it was used
    assert [record.getMessage() for record in caplog.records] == [
        "expected to read the newest snapshot, but keep the one in use: expected a manifest"
    ]


class TestListening:
    @pytest.mark.parametrize(
        ("host", "expected"),
        [
            ("127.0.0.1", True),
            ("localhost", True),
            ("127.8.0.1", True),
            ("::1", True),
            ("0.0.0.0", False),
            ("::", False),
        ],
    )
    def test_loopback(self, host, expected):
        assert is_loopback(host) is expected

    def test_a_taken_port(self):
        with listen("127.0.0.1", 0) as first:
            port = first.getsockname()[1]
            with pytest.raises(UsageError, match=f"^expected to listen on port {port} of 127.0.0.1, but cannot: "):
                listen("127.0.0.1", port)

    @pytest.mark.parametrize("host", ["", "no such", "256.1.1.1"])
    def test_an_unknown_host(self, host):
        with pytest.raises(UsageError, match=f"^expected --host as an address of this machine, got '{host}': "):
            listen(host, 0)


def test_the_description_has_examples(client):
    description = client.get("/openapi.json").json()
    assert {"/v1/search", "/v1/recommend", "/v1/feedback", "/v1/info", "/healthz", "/metrics"} <= description[
        "paths"
    ].keys()
    text = json.dumps(description)
    assert "boats/01.jpg" in text and '"examples"' in text


def test_the_page_of_the_api_needs_nothing_from_elsewhere(client):
    page = client.get("/docs").raise_for_status().text
    links = re.findall(r"""(?:src|href|url)["']?\s*[=:]\s*["']([^"']+)""", page)
    assert {"/openapi.json", "/docs/assets/swagger-ui-bundle.js", "/docs/assets/swagger-ui.css"} <= {*links}
    for link in links:
        assert link.startswith("/") and client.get(link).status_code == 200
    assert client.get("/docs/assets/..%2f__init__.py").status_code == 404
    assert httpx.get(client.base_url.join("/docs")).status_code == 401


def test_the_bare_address_leads_to_the_page_of_the_api(client):
    redirect = client.get("/")
    assert redirect.is_redirect and redirect.headers["location"] == "/docs"
    assert "swagger" in client.get("/", follow_redirects=True).raise_for_status().text
    assert "/" not in client.get("/openapi.json").json()["paths"]
    assert httpx.get(client.base_url).status_code == 401
