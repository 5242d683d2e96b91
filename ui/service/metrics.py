"""What the service tells Prometheus: requests, how long they took, batches, and what waits."""

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class ServiceMetrics:
    """Figures in a registry of their own, so that two services in one process do not share them."""

    def __init__(self):
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "spyglass_requests", "Requests answered.", ["method", "route", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "spyglass_request_seconds", "Time to an answer.", ["route"], buckets=_SECONDS, registry=self._registry
        )
        self._batch_sizes = Histogram(
            "spyglass_batch_size", "Queries answered together.", buckets=(1, 2, 4, 8, 16, 32), registry=self._registry
        )

    def gauge(self, name: str, what: str, value: Callable[[], float]) -> None:
        """Tell `value()`, whenever asked, as `spyglass_<name>`."""
        Gauge(f"spyglass_{name}", what, registry=self._registry).set_function(value)

    def count_batch(self, num_queries: int) -> None:
        self._batch_sizes.observe(num_queries)

    def count_request(self, method: str, route: str, status: int, seconds: float) -> None:
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """All figures in Prometheus' text format."""
        return generate_latest(self._registry)


class CountRequests:
    """Counts what passes through it, by route rather than by path: there are as many paths as images."""

    def __init__(self, app: ASGIApp, metrics: ServiceMetrics):
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        started, status = time.perf_counter(), 500

        async def noting_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting_status)
        finally:
            # Methods are the client's to invent, and what is no route of ours has no name.
            route = getattr(scope.get("route"), "path", None)
            method = scope["method"] if route else "other"
            self._metrics.count_request(method, route or "none", status, time.perf_counter() - started)
