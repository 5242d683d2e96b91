"""What nobody means well by: hostile pictures and requests, each refused by name, in bounded memory."""

import http.client
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import httpx
import pytest
from mutations import hostile_pictures
from test_serving import folder as index_of_the_shipped_model
from test_serving import running
from toy import png

from retrieval.errors import ImageError
from retrieval.images import decode, read_header

NUM_UPLOADS = int(os.environ.get("SPYGLASS_HOSTILE_UPLOADS", "300"))
MAX_PIXELS = 20_000_000
MOST_MEMORY = 600 * 2**20
"""Bytes that all hostile requests together may take, at their worst, beyond what a search takes."""

few_index = index_of_the_shipped_model


def is_readable(picture: bytes) -> bool:
    try:
        header = read_header(picture)
        if header.width * header.height > MAX_PIXELS:
            return False
        decode(picture, 32)
    except ImageError:
        return False
    return True


def peak_memory(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", status)[1])


def endless() -> Iterator[bytes]:
    while True:
        yield bytes(100_000)


def status_of(url: str, method: str, path: str, body: bytes | Iterator[bytes] = b"", **headers: str) -> int:
    """By a client that sends what it is told to; 0 where the service hangs up before it has everything."""
    place = httpx.URL(url)
    connection = http.client.HTTPConnection(place.host, place.port, timeout=30)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        return connection.getresponse().status
    except (BrokenPipeError, ConnectionResetError):
        return 0
    finally:
        connection.close()


MULTIPART = "multipart/form-data; boundary=x"
JSON = "application/json"
PART = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'

REQUESTS = {
    "a gigabyte, so it says": (b"", {"Content_Type": MULTIPART, "Content_Length": str(2**30)}),
    "a length beyond all numbers": (b"", {"Content_Type": MULTIPART, "Content_Length": "9" * 19}),
    "a length that is none": (b"", {"Content_Type": MULTIPART, "Content_Length": "-1"}),
    "no boundary": (PART, {"Content_Type": "multipart/form-data"}),
    "another boundary": (PART, {"Content_Type": "multipart/form-data; boundary=y"}),
    "no end": (PART + png(1), {"Content_Type": MULTIPART}),
    "no beginning": (b"\r\n\r\n" + png(1), {"Content_Type": MULTIPART}),
    "two thousand parts": (2000 * (PART + b"\r\n") + b"--x--\r\n", {"Content_Type": MULTIPART}),
    "a head without end": (PART[:-4] + b"\r\nA: " + bytes(100_000), {"Content_Type": MULTIPART}),
    "a field of megabytes": (
        b'--x\r\nContent-Disposition: form-data; name="id"\r\n\r\n' + 3_000_000 * b"a" + b"\r\n--x--\r\n",
        {"Content_Type": MULTIPART},
    ),
    "another type": (png(1), {"Content_Type": "image/png"}),
    "a type that is none": (png(1), {"Content_Type": ";;;\x01=".replace("\x01", "?")}),
    "JSON": (b'{"id": "000.png"}', {"Content_Type": JSON}),
    "nothing": (b"", {}),
}

BODIES = [
    b"",
    b"{",
    b"null",
    b"[]",
    b'"text"',
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"positives": ' + b"[" * 100_000,
    b'{"positives": ["000.png"], "filters": ' + b'{"a": ' * 500 + b"1" + b"}" * 501,
    b'{"positives": ["\\ud800"]}',
    b'{"positives": ["\\u0000"]}',
    b'{"positives": [1]}',
    b'{"positives": ["000.png"], "k": 1e400}',
    b'{"positives": ["000.png"], "k": ' + b"9" * 5000 + b"}",
    b'{"positives": ["000.png"], "min_score": NaN}',
    b'{"positives": ["000.png"], "where": "1=1"}',
    b'{"positives": ["000.png"], "filters": {"id": {"eq": ' + b"9" * 400 + b"}}}",
    b'{"positives": [' + b",".join([b'"000.png"'] * 33) + b"]}",
]


@pytest.mark.slow
def test_hostile_uploads_are_refused_in_bounded_memory(few_index):
    with (
        running("--index", few_index, "--max-pixels", MAX_PIXELS) as (process, url),
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        for size in (1, 8):  # what a search, and many at once, take anyway
            with ThreadPoolExecutor(size) as threads:
                list(threads.map(lambda number: client.post("/v1/search", files={"image": png(number)}), range(size)))
        before = peak_memory(process.pid)

        def upload(picture: bytes) -> httpx.Response:
            return client.post("/v1/search", files={"image": ("a.png", picture)}, data={"k": 1})

        pictures = list(islice(hostile_pictures(seed=6), NUM_UPLOADS))
        with ThreadPoolExecutor(8) as threads:
            responses = list(threads.map(upload, (data for _, data in pictures)))
        for (name, data), response in zip(pictures, responses, strict=True):
            assert response.status_code == (200 if is_readable(data) else 422), (name, response.text)
        num_refused = sum(response.status_code == 422 for response in responses)
        assert num_refused > NUM_UPLOADS / 4

        for name, (body, headers) in REQUESTS.items():
            assert 400 <= status_of(url, "POST", "/v1/search", body, **headers) < 500, name
        for body in BODIES:
            assert 400 <= status_of(url, "POST", "/v1/recommend", body, Content_Type=JSON) < 500, body[:80]
        for kind in (MULTIPART, JSON):
            assert status_of(url, "POST", "/v1/search", endless(), Content_Type=kind, Transfer_Encoding="chunked") in (
                *(0, 400, 413),
                422,  # of what is no form nothing is read
            )

        assert upload(png(2)).json()["hits"][0]["id"] == "002.png"
        assert peak_memory(process.pid) - before < MOST_MEMORY
