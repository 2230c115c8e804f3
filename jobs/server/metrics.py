"""What the server counts, as Prometheus reads it. A registry of its own: nothing is global."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

from jobs.server.guard import App, Message, Receive, Scope, Send

if TYPE_CHECKING:
    from jobs.server.answers import Answers

_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class Metrics:
    """Requests by route and status, their seconds, texts kept and encoded, vectors and versions, memory."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        labels = ("route", "status")
        self._requests = Counter("miner_requests", "Requests by route and status", labels, registry=registry)
        self._seconds = Histogram("miner_request_seconds", "Seconds", ("route",), registry=registry, buckets=_BUCKETS)
        said = {"hits": "Texts whose vector was kept", "misses": "Texts encoded", "batches": "Calls of the encoder"}
        for name, help in said.items():
            gauge = Gauge(f"miner_texts_{name}", help, registry=registry)
            gauge.set_function(partial(self._of_prompts, name))
        follows = Gauge("miner_follows_lake", "1, or 0 if the last look at the lake failed", registry=registry)
        follows.set_function(lambda: float(not answers.trouble))
        self._versions = Gauge("miner_table_version", "Version that answers", ("table",), registry=registry)

    def _of_prompts(self, name: str) -> float:
        return self._answers.prompts[name]

    def text(self) -> bytes:
        """Everything, in Prometheus's text format."""
        for table, version in self._answers.versions.items():
            self._versions.labels(table).set(version)
        return bytes(generate_latest(self._registry))

    def watching(self, app: App) -> App:
        """The app, with its requests counted."""

        async def watched(scope: Scope, receive: Receive, send: Send) -> None:
            status, started = 500, time.perf_counter()

            async def noted(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                await send(message)

            try:
                await app(scope, receive, noted)
            finally:
                if scope["type"] == "http":
                    route = getattr(scope.get("route"), "path", "other")
                    self._requests.labels(route, status).inc()
                    self._seconds.labels(route).observe(time.perf_counter() - started)

        return watched
