"""A web server on this machine that misbehaves as servers do."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote


class Answers:
    """What is sent for a path: its bytes, or what a function does with the request and its number, from 1."""

    def __init__(self, url: str):
        self.url = url
        self.pages: dict[str, bytes | Callable] = {}
        self.num_requests: Counter[str] = Counter()


@contextmanager
def web_server() -> Iterator[Answers]:
    """Runs until the context ends; folders are listed, ranges are not given."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self):
            path = unquote(self.path.partition("?")[0])
            answers.num_requests[path] += 1
            page = answers.pages.get(path)
            if callable(page):
                page(self, answers.num_requests[path])
            elif page is not None:
                send(self, 200, page)
            elif inside := sorted(
                {name[len(path) :].partition("/") for name in answers.pages if name.startswith(path)}
            ):
                links = "".join(f'<a href="{"".join(link[:2])}">{link[0]}</a>' for link in inside)
                send(self, 200, f'<a href="../">up</a><a href="?C=N">sort</a>{links}'.encode(), kind="text/html")
            else:
                send(self, 404, b"nothing here")

        do_HEAD = do_GET

        def log_message(self, *arguments):
            """Nothing: the tests read what was asked for from the server itself."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda request, address: None  # of clients that hang up
    answers = Answers(f"http://127.0.0.1:{server.server_port}")
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield answers
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def send(handler, status: int, body: bytes, *, kind: str = "image/png", length: int | None = None, **headers) -> None:
    """An answer, perhaps one that lies about its length."""
    handler.send_response(status)
    handler.send_header("Content-Type", kind)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body)
    handler.close_connection = length is not None


def failing_first(status: int, body: bytes, **headers) -> Callable:
    """An answer that is an error for the first time."""
    return lambda handler, number: send(handler, status, b"", **headers) if number == 1 else send(handler, 200, body)


def cut_first(body: bytes) -> Callable:
    """An answer that breaks off for the first time."""
    return lambda handler, number: send(handler, 200, body[: 100 if number == 1 else None], length=len(body))


def redirect(place: str) -> Callable:
    """An answer that is elsewhere."""
    return lambda handler, number: send(handler, 302, b"", Location=place)


def dripping(handler, number: int) -> None:
    """A byte now and then, for as long as anybody listens."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    for _ in range(200):
        handler.wfile.write(b"x")
        time.sleep(0.05)


def endless(handler, number: int) -> None:
    """As many bytes as anybody takes."""
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    handler.close_connection = True
    while True:
        handler.wfile.write(bytes(1 << 16))


def silent(handler, number: int) -> None:
    """A promise, and nothing after it."""
    handler.send_response(200)
    handler.send_header("Content-Length", "100")
    handler.end_headers()
    handler.wfile.flush()
    time.sleep(2)
    handler.close_connection = True
