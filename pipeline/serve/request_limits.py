"""How much a request may bring and how long it may take, and what is counted of it.

ASGI middleware behind `guard`: an upload that is too long is refused by its declared length, or as soon as it exceeds
the limit; a search is refused before its photo is read where the queue is full.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.config import ServeConfig
from pipeline.serve.metrics import Metrics
from pipeline.serve.refusals import busy, refusal, refuse

# What a form has around its photo: other fields, names, separators.
_AROUND = 1_000_000


class _RefusedError(Exception):
    """The body of a request is refused while it is read."""


class Limits:
    """Around every route.

    Args:
        app: what is behind.
        settings: limits of bytes and seconds.
        full: whether the queue of searches is full.
        metrics: told of every request.
    """

    def __init__(self, app: ASGIApp, settings: ServeConfig, full: Callable[[], bool], metrics: Metrics) -> None:
        self._app, self._settings, self._full, self._metrics = app, settings, full, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.monotonic(), 500

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._limited(scope, receive, counted)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.requests.labels(route, str(status)).inc()
            self._metrics.seconds.labels(route).observe(time.monotonic() - started)

    async def _limited(self, scope: Scope, receive: Receive, send: Send) -> None:
        limit = self._settings.max_bytes + _AROUND
        if _declared(scope) > limit:
            await self._too_long(scope, receive, send)
            return
        if scope["method"] == "POST" and scope["path"].startswith("/search") and self._full():
            await refuse(busy(), scope, receive, send)
            return
        body = _Body(receive, limit, time.monotonic() + self._settings.seconds)
        answered = False

        async def unless_refused(message: Message) -> None:
            nonlocal answered
            if not body.refused or answered:
                answered = True
                await send(message)

        with contextlib.suppress(_RefusedError):
            await self._app(scope, body.receive, unless_refused)
        if body.refused and not answered:
            seconds = f"{self._settings.seconds:g} seconds"
            slow = refusal(408, f"the request was not read within {seconds} (serve.seconds)", connection="close")
            await (slow(scope, receive, send) if body.slow else self._too_long(scope, receive, send))

    async def _too_long(self, scope: Scope, receive: Receive, send: Send) -> None:
        allowed = f"{self._settings.max_bytes:,} bytes allowed (serve.max_bytes)"
        await refuse(refusal(413, f"more than the {allowed}"), scope, receive, send)


class _Body:
    """The body of a request, counted while it is read."""

    def __init__(self, receive: Receive, limit: int, deadline: float) -> None:
        self._receive, self._left, self._deadline = receive, limit, deadline
        self._complete = self.refused = self.slow = False

    async def receive(self) -> Message:
        """The next message. Raises _RefusedError beyond the limits."""
        if self._complete:  # what comes now is that the client has gone
            return await self._receive()
        try:
            async with asyncio.timeout(max(0.0, self._deadline - time.monotonic())):
                message = await self._receive()
        except TimeoutError:
            self.refused = self.slow = True
            raise _RefusedError from None
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            self.refused = True
            raise _RefusedError
        self._complete = not message.get("more_body", False)
        return message


def _declared(scope: Scope) -> int:
    text = Headers(scope=scope).get("content-length", "0")
    return int(text) if text.isdecimal() and len(text) < 20 else 0
