"""What the service counts, in Prometheus' text format at `/metrics`.

Written by `engine`, `request_limits` and `thumbnails`; each service has its own registry: several can run in one
process.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

MEDIA_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """Counters, gauges and histograms of one service."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "relook_http_requests", "requests by route and status", ["route", "status"], registry=self._registry
        )
        self.seconds = Histogram(
            "relook_http_request_seconds", "seconds until a response is complete", ["route"], registry=self._registry
        )
        self.open_searches = Gauge("relook_open_searches", "searches under way or waiting", registry=self._registry)
        self.batches = Histogram(
            "relook_batch_queries",
            "queries that go through the network together",
            buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=self._registry,
        )
        self.generation = Gauge("relook_generation", "generation of the index", registry=self._registry)
        self.images = Gauge("relook_images", "images of the index", registry=self._registry)
        self.thumbnail_bytes = Gauge("relook_thumbnail_bytes", "of the cached thumbnails", registry=self._registry)

    def text(self) -> bytes:
        """All of them, as Prometheus reads them."""
        return generate_latest(self._registry)
