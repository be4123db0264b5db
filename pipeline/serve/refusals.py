"""Refusals: one line of JSON with a status, sent so that the client can read it.

Used by `guard`, `request_limits` and `routes`.
"""

from __future__ import annotations

import asyncio

from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

# What is read and dropped of a body that is refused. A client that is still sending, and whose connection is closed,
# never sees why; one that sends without end is cut off.
_DROPPED_BYTES = 64_000_000
_DROPPED_SECONDS = 5.0


def refusal(status: int, error: str, **headers: str) -> JSONResponse:
    """The response with the document `{"error": ...}`."""
    return JSONResponse(
        {"error": error}, status, headers={name.replace("_", "-"): value for name, value in headers.items()}
    )


def busy() -> JSONResponse:
    """The response where the queue is full."""
    return refusal(503, "too many searches at once; try again", retry_after="1")


async def refuse(response: JSONResponse, scope: Scope, receive: Receive, send: Send) -> None:
    """Send a response to a request whose body nobody reads."""
    left, more = _DROPPED_BYTES, scope["method"] not in ("GET", "HEAD")
    try:
        async with asyncio.timeout(_DROPPED_SECONDS):
            while more and left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                more = message.get("more_body", False)
    except TimeoutError:
        more = True
    if more:
        response.headers["Connection"] = "close"
    await response(scope, receive, send)
