"""The section `serve`: the HTTP service and its page.

What it listens on, what it offers, and its limits. The token is no setting: it is read from the variable RELOOK_TOKEN.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from pipeline.config.near_equal import NEAR_EQUAL
from pipeline.settings import Positive, PositiveFloat, Section


class ThumbnailsConfig(Section):
    """The small pictures of the page, kept on disk."""

    directory: Path | None = Field(None, description="where they are kept; null: cache/thumbnails in the index")
    max_bytes: Positive = Field(500_000_000, description="of all of them; those used longest ago are removed")


class ServeConfig(Section):
    """The HTTP service and its page (docs/serve.md)."""

    host: str = Field("127.0.0.1", description="address to listen on; beyond loopback only with a token or insecure")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(8765, description="0: a free one")
    hosts: tuple[str, ...] = Field(
        (), description="names that clients may call the server by; beyond loopback without any, every name"
    )
    insecure: bool = Field(False, description="listen beyond loopback without a token")
    max_bytes: Positive = Field(25_000_000, description="of an uploaded photo")
    max_pixels: Positive = Field(60_000_000, description="of an uploaded photo")
    decode_seconds: PositiveFloat = Field(10.0, description="time limit for decoding a photo")
    seconds: PositiveFloat = Field(60.0, description="time limit for one request")
    connections: Positive = Field(256, description="open connections at most; further ones get code 503")
    queue: Positive = Field(64, description="searches under way or waiting; further ones get code 503 and Retry-After")
    batch: Positive = Field(8, description="waiting queries that go through the network together, at most")
    workers: Positive = Field(2, description="threads that search the store and re-rank, and as many for thumbnails")
    refresh: PositiveFloat = Field(2.0, description="seconds between two looks for a new generation of the index")
    top_k: Positive = Field(200, description="results that one search may request")
    depth: Positive = Field(1000, description="candidates that one search may have re-ranked")
    rerankers: tuple[str, ...] | None = Field(
        None, description="rerankers that are offered; null: every one that can be used with the index"
    )
    near: Annotated[float, Field(gt=0, le=1)] = Field(
        NEAR_EQUAL, description="cosine of two results from which they are shown as one group (docs/duplicates.md)"
    )
    thumbnails: ThumbnailsConfig = ThumbnailsConfig()
