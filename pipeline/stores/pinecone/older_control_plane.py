"""The control plane of earlier API versions, which describes an index by `dimension` and `metric` instead of a schema.

Below `service.py`, for self-hosted servers: the SDK decodes the present shape alone. Only four requests are needed,
by the SDK's own HTTP library; vectors are read and written by the SDK in either case.
"""

from __future__ import annotations

import os
import time
from typing import Any

from pydantic import BaseModel, ValidationError

from pipeline.errors import RelookError
from pipeline.stores.pinecone.requests import KEY, TransientError

_VERSION = "2025-10"
_HOST = "https://api.pinecone.io"
_PAUSE = 1.0


class OlderStatus(BaseModel):
    """Whether the index can be used yet."""

    ready: bool = True


class OlderIndex(BaseModel):
    """What an earlier control plane says of an index."""

    name: str
    dimension: int
    metric: str = "cosine"
    host: str = ""
    tags: dict[str, str] | None = None
    status: OlderStatus = OlderStatus()


class OlderControlPlane:
    """The control plane at PINECONE_CONTROLLER_HOST.

    Args:
        timeout: seconds for one request.
    """

    def __init__(self, timeout: float) -> None:
        self._address = os.environ.get("PINECONE_CONTROLLER_HOST") or _HOST
        if "://" not in self._address:
            self._address = f"https://{self._address}"
        self._timeout = timeout

    def describe(self, name: str) -> OlderIndex | None:
        """An index that this API describes; None where the reply has another shape."""
        try:
            return self._index(self._send("GET", f"/indexes/{name}"))
        except ValidationError:
            return None

    def create(self, name: str, dimension: int, cloud: str, region: str, seconds: float) -> OlderIndex:
        """Create an index of unit vectors, and wait until it is ready. Raises RelookError when it is refused."""
        spec = {"serverless": {"cloud": cloud, "region": region}}
        body = {"name": name, "dimension": dimension, "metric": "cosine", "spec": spec}
        self._send("POST", "/indexes", body)
        began = time.monotonic()
        while True:
            made = self.describe(name)
            if made is not None and made.status.ready:
                return made
            if time.monotonic() - began > seconds:
                raise RelookError(f"Pinecone index {name}: not ready {seconds:g} s after it was created; run it again")
            time.sleep(_PAUSE)

    def tag(self, name: str, key: str, value: str) -> None:
        """Set one tag of an index; the others stay."""
        self._send("PATCH", f"/indexes/{name}", {"tags": {key: value}})

    def _index(self, content: Any) -> OlderIndex:
        found = OlderIndex.model_validate(content)
        if found.host and "://" not in found.host:
            found.host = f"{self._address.partition('://')[0]}://{found.host}"
        return found

    def _send(self, method: str, path: str, body: Any = None) -> Any:
        import httpx

        headers = {"Api-Key": os.environ.get(KEY, ""), "X-Pinecone-API-Version": _VERSION}
        try:
            reply = httpx.request(method, self._address + path, json=body, headers=headers, timeout=self._timeout)
            reply.raise_for_status()
            return reply.json()
        except httpx.HTTPStatusError as error:
            status = error.response.status_code
            kind = TransientError if status >= 500 or status == 429 else RelookError
            raise kind(f"Pinecone {method} {path}: refused with status {status}") from None
        except httpx.HTTPError as error:
            raise TransientError(f"Pinecone {method} {path}: {type(error).__name__}; run it again") from None
        except ValueError:
            raise RelookError(f"Pinecone {method} {path}: the reply is not JSON") from None
