"""An HTTP connection that is given up where its first request does not come."""

from asyncio import Transport

from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_SECONDS = 10
"""How long a new connection may take to send the head of its first request; uvicorn times the later ones itself."""


class TimedConnection(H11Protocol):
    """uvicorn's, which would wait for ever: a few thousand silent connections could keep all others out."""

    def connection_made(self, transport: Transport) -> None:
        super().connection_made(transport)
        # Called off by uvicorn when the head of a request is there, as after the requests before.
        self.timeout_keep_alive_task = self.loop.call_later(REQUEST_SECONDS, self.timeout_keep_alive_handler)
