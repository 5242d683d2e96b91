"""What a client may ask of the service before anything is done for it: who it is, how often, how much, how slowly."""

import asyncio
import hmac
import time
from collections import OrderedDict

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ui.service.config import ServiceConfig
from ui.service.errors import error_response

_OPEN_TO_ALL = "/healthz"
_LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")
_CLOSE = {"Connection": "close"}  # what is still to come of a refused body is not read


class Doorkeeper:
    """Lets in who knows the key, and not too often; where there is no key, who asks under a loopback name.

    The latter keeps out web pages that have their own name resolve to 127.0.0.1.
    """

    def __init__(self, app: ASGIApp, config: ServiceConfig):
        self._app = app
        self._key = config.api_key
        self._rate = RateLimit(config.requests_per_second, config.burst) if config.requests_per_second else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(scope) if scope["type"] == "http" and scope["path"] != _OPEN_TO_ALL else None
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> ASGIApp | None:
        seconds = self._rate.seconds_to_wait(scope["client"][0] if scope["client"] else "") if self._rate else 0.0
        if seconds:
            message = f"expected at most {self._rate.per_second:g} requests a second, got more; come back later"
            return error_response(429, message, {"Retry-After": str(int(seconds) + 1), **_CLOSE})
        headers = Headers(scope=scope)
        if self._key is None:
            host = headers.get("host", "")
            if _without_port(host) not in _LOOPBACK_NAMES:
                expected = "expected a request to 127.0.0.1 or localhost, since this service has no API key"
                return error_response(403, f"{expected}, got one to {host!r}; set SPYGLASS_API_KEY to serve it", _CLOSE)
        elif not hmac.compare_digest(_key_in(headers).encode("utf-8", "replace"), self._key.encode()):
            expected = "expected the API key in the header 'Authorization: Bearer KEY' or 'X-API-Key: KEY'"
            return error_response(401, f"{expected}, got none or another", {"WWW-Authenticate": "Bearer", **_CLOSE})
        return None


class RateLimit:
    """A bucket of tokens for each client: a request takes one, `per_second` come back, at most `burst` are saved up."""

    MOST_CLIENTS = 10_000

    def __init__(self, per_second: float, burst: int):
        self.per_second = per_second
        self._burst = burst
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens and when; the latest comes last

    def seconds_to_wait(self, client: str, now: float | None = None) -> float:
        """0 where the client may go on, which takes a token; else the seconds until it has one."""
        now = time.monotonic() if now is None else now
        tokens, since = self._buckets.pop(client, (float(self._burst), now))
        tokens = min(self._burst, tokens + (now - since) * self.per_second)
        wait = 0.0 if tokens >= 1 else (1 - tokens) / self.per_second
        self._buckets[client] = (tokens if wait else tokens - 1, now)
        if len(self._buckets) > self.MOST_CLIENTS:
            self._buckets.popitem(last=False)
        return wait


class BodyLimits:
    """Stops a request's body when it is too long or too slow, and all of them when there is too much at once.

    What a body declares is believed where it is too much: then nothing of it is read.
    """

    def __init__(self, app: ASGIApp, config: ServiceConfig):
        self._app = app
        self._config = config
        self._bytes_at_once = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isascii() and declared.isdigit() and int(declared[:20]) > self._config.max_upload_bytes:
            return await self._too_long(int(declared[:20]))(scope, receive, send)
        body = _Body(receive, self._config, self)
        try:
            await self._app(scope, body.receive, send)
        finally:
            self._bytes_at_once -= body.num_bytes

    def take(self, num_bytes: int) -> None:
        """Count bytes that have come in; raises `HTTPException` where they are too many."""
        self._bytes_at_once += num_bytes
        if self._bytes_at_once > self._config.max_bytes_at_once:
            raise HTTPException(503, "expected room for the request, got more than fits at once; come back later")

    def _too_long(self, num_bytes: int):
        limit = self._config.max_upload_bytes
        message = f"expected a body of at most {limit:,} bytes, got {num_bytes:,}; send a smaller picture"
        return error_response(413, message, _CLOSE)


class _Body:
    def __init__(self, receive: Receive, config: ServiceConfig, limits: BodyLimits):
        self.num_bytes = 0
        self._receive = receive
        self._config = config
        self._limits = limits
        self._due: float | None = None
        self._is_whole = False

    async def receive(self) -> Message:
        if self._is_whole:  # what follows is the client's leaving, which may take as long as the answer does
            return await self._receive()
        self._due = self._due or time.monotonic() + self._config.body_seconds
        try:
            async with asyncio.timeout(max(0.0, self._due - time.monotonic())):
                message = await self._receive()
        except TimeoutError:
            expected = f"expected the whole body within {self._config.body_seconds:g} s"
            raise HTTPException(408, f"{expected}, got {self.num_bytes:,} bytes; send it again", _CLOSE) from None
        num_new = len(message.get("body", b""))
        self.num_bytes += num_new
        self._limits.take(num_new)
        if self.num_bytes > self._config.max_upload_bytes:
            limit = self._config.max_upload_bytes
            message = f"expected a body of at most {limit:,} bytes, got more; send a smaller picture"
            raise HTTPException(413, message, _CLOSE)
        self._is_whole = not message.get("more_body", False)
        return message


def _key_in(headers: Headers) -> str:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name.lower() if colon and port.isdigit() else host.lower()
