"""How the HTTP service behaves: its key, its limits, its batches."""

from dataclasses import dataclass

from retrieval.errors import UsageError

MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class ServiceConfig:
    """Settings of `ui.server.create_app`; raises `UsageError` for what makes no sense.

    `api_key`: what clients must send; None lets in everyone who asks under a loopback name. `max_upload_bytes` of a
    request's body, `max_pixels` of a picture in it. `max_bytes_at_once`: of all bodies together that are being
    received or worked on. `body_seconds`: how long a body may take to arrive. `requests_per_second`: of one client's
    address, 0 for any number; it may save up `burst` of them. `batch_milliseconds`: how long a query waits for others
    to go through the model with it, at most `max_batch` of them together; 0 and 1 turn batching off. `max_waiting`:
    queries, or pictures to be read, that wait before others are refused. `poll_seconds`: how often a newer snapshot of
    the index is looked for.
    """

    api_key: str | None = None
    max_upload_bytes: int = 20 * MIB
    max_pixels: int = 50_000_000
    max_bytes_at_once: int = 512 * MIB
    body_seconds: float = 30.0
    requests_per_second: float = 0.0
    burst: int = 100
    batch_milliseconds: float = 3.0
    max_batch: int = 32
    max_waiting: int = 256
    poll_seconds: float = 1.0

    def __post_init__(self):
        if self.api_key is not None and not (self.api_key and self.api_key.isascii() and self.api_key.isprintable()):
            raise UsageError("expected an API key of printable ASCII characters, got another; choose a new one")
        for name in ("max_upload_bytes", "max_pixels", "max_bytes_at_once", "burst", "max_batch", "max_waiting"):
            if getattr(self, name) < 1:
                raise UsageError(f"expected {name} of at least 1, got {getattr(self, name)}")
        for name in ("requests_per_second", "batch_milliseconds"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise UsageError(f"expected {name} of at least 0, got {getattr(self, name)}")
        for name in ("body_seconds", "poll_seconds"):
            if not 0 < getattr(self, name) < float("inf"):
                raise UsageError(f"expected {name} above 0, got {getattr(self, name)}")
