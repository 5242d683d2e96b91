"""An HTTP connection that is given up where its next request does not come, or its answer is not taken."""

from asyncio import TimerHandle, Transport

from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_SECONDS = 10
"""How long a client may take to send the head of a request, once it is connected or has had an answer."""

STALL_SECONDS = 30
"""How long a client may take nothing of an answer that does not fit into the buffers between."""


class TimedConnection(H11Protocol):
    """uvicorn's, which would wait for ever: a few thousand silent connections could keep all others out."""

    _awaited: TimerHandle | None = None
    _stalled: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:
        super().connection_made(transport)
        self._await_request()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._await_request()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled = self.loop.call_later(STALL_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        _call_off(self._stalled)
        super().resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        _call_off(self._awaited)
        _call_off(self._stalled)
        super().connection_lost(error)

    def _await_request(self) -> None:
        _call_off(self._awaited)
        self._awaited = self.loop.call_later(REQUEST_SECONDS, self._hang_up_if_silent)

    def _hang_up_if_silent(self) -> None:
        if self.cycle is None or self.cycle.response_complete:  # else a request is being answered
            self.transport.close()


def _call_off(timer: TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
