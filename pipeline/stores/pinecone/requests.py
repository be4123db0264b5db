"""How requests to Pinecone are sent again, and what their errors mean.

Below the Pinecone store. The SDK repeats a request a few times within seconds; what still fails then is sent again
here, reads as well as writes, as far as `store.pinecone.resends` goes. Every error ends in one line without the key.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from pipeline.errors import RelookError

logger = logging.getLogger("relook")

KEY = "PINECONE_API_KEY"

_HINT = "; run it again"

Reply = TypeVar("Reply")


@dataclass(frozen=True)
class RequestSettings:
    """How requests are sent.

    Attributes:
        concurrency: requests at once.
        resends: how often a failed request is sent again after the SDK's own retries.
        resend_after: seconds before each.
    """

    concurrency: int
    resends: int
    resend_after: float


class TransientError(RelookError):
    """An error that the same request may not meet again: an overload, a timeout, a connection that was cut."""


def with_resends(name: str, settings: RequestSettings, request: Callable[[], Reply]) -> Reply:
    """The reply to a request that changes nothing, sent again while errors are transient.

    Raises RelookError: the last error, or the first that is not transient.
    """
    left = settings.resends
    while True:
        try:
            with pinecone_errors(name):
                return request()
        except TransientError as error:
            if not left:
                raise
            left -= 1
            logger.warning("%s; sent again in %g s", str(error).removesuffix(_HINT), settings.resend_after)
            time.sleep(settings.resend_after)


@contextmanager
def pinecone_errors(name: str) -> Iterator[None]:
    """Errors of the SDK become one line about the index `name`. Raises RelookError, TransientError where a later
    request may succeed."""
    from pinecone.errors import ApiError, PineconeConnectionError, PineconeError, PineconeTimeoutError

    try:
        yield
    except ApiError as error:
        kind = TransientError if error.status_code >= 500 or error.status_code == 429 else RelookError
        raise kind(f"Pinecone index {name}: {_refusal(error.status_code)} ({_clean(error)})") from None
    except (PineconeTimeoutError, PineconeConnectionError) as error:
        raise TransientError(f"Pinecone index {name}: {_failure(error)} ({_clean(error)}){_HINT}") from None
    except PineconeError as error:
        raise RelookError(f"Pinecone index {name}: {_clean(error)}") from None


def _refusal(status: int) -> str:
    known = {
        401: f"the key in {KEY} is refused",
        402: "the account needs a payment",
        403: "the account does not allow it, or is full",
        404: "the index or namespace does not exist",
        413: "a request is too large",
        429: "too many requests, or a monthly limit is used up; run it again later",
    }
    return known.get(status, "failed; run it again" if status >= 500 else "refused")


def _failure(error: BaseException) -> str:
    """What happened to the connection, by the cause that the SDK keeps."""
    import httpx

    cause = error.__cause__
    if isinstance(cause, httpx.ConnectTimeout):
        return "cannot be reached, no connection in time"
    if isinstance(cause, httpx.ConnectError | httpx.ProxyError | httpx.UnsupportedProtocol):
        return "cannot be reached"
    if isinstance(error, TimeoutError):
        return "no answer in time; raise store.pinecone.timeout"
    return "the connection was cut"


def _clean(error: Any) -> str:
    text, key = " ".join(str(error).split()), os.environ.get(KEY, "")
    return text.replace(key, "***") if key else text
