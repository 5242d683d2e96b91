"""A process that serves until it is told to stop."""

import logging
import signal
import socket
import sys

import typer
import uvicorn

from indexer import Index
from ui.endings import DONE
from ui.server import create_app
from ui.service.config import ServiceConfig
from ui.service.fresh_index import warm
from ui.service.listening import url_of
from ui.service.timed_connection import TimedConnection

GRACE_SECONDS = 5
"""How long requests in flight may take once the process is told to stop: it has 10 s to end, on a busy machine too."""

_MOST_CONNECTIONS = 1000


def run(index: Index, config: ServiceConfig, listening: socket.socket) -> None:
    """Serve on a socket that listens, and print its address; returns after SIGTERM, once what was begun is done.

    Raises what reading the index and its model raises, before anything is served.
    """
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # what clients send wrong is told to them
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(DONE))  # nothing is in flight yet
    warm(index)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # uvicorn's own handler raises it once more when all is done
    _Server(uvicorn_config(create_app(index, config))).run(sockets=[listening])


def uvicorn_config(app, **changes) -> uvicorn.Config:
    """How uvicorn is to run `app`, but for `changes`."""
    settings = {
        "http": TimedConnection,
        "ws": "none",
        "lifespan": "on",
        "log_config": None,  # to stderr, like all that this package logs
        "log_level": "warning",
        "access_log": False,
        "server_header": False,
        "limit_concurrency": _MOST_CONNECTIONS,
        "timeout_graceful_shutdown": GRACE_SECONDS,
    }
    return uvicorn.Config(app, **settings | changes)


class _Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            typer.echo(url_of(sockets[0]))
            sys.stdout.flush()
