"""How a store is reached, and what its errors mean.

Below `object_store` and `conditional_put`. The address and the region come from the URL or the environment; pyarrow and
boto3 read credentials by themselves.
"""

from __future__ import annotations

import os
import re
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, urlencode

from pipeline.errors import RelookError, UnreachableError, UsageError

_SCHEME = re.compile(r"(?:(?P<scheme>https?):/{1,2})?(?P<host>(?:\[[0-9a-fA-F:]+\]|[^/:\s]+)(?::\d+)?)/*")
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")
_CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE")

_REFUSED = re.compile(
    r"access_?denied|forbidden|invalid_?access_?key|signature_?does_?not_?match|expired_?token|invalid_?token"
    r"|invalid_?client_?token|invalid_?object_?state|permission denied"
    r"|unable to locate credentials|partial credentials",
    re.IGNORECASE,
)
_NO_BUCKET = re.compile(r"no_?such_?bucket|bucket '[^']*' not found", re.IGNORECASE)


def s3_options(url_options: str) -> dict[str, str]:
    """What the URL and the environment say of an S3 server.

    Args:
        url_options: what follows the question mark of the URL.

    Returns:
        "endpoint_override" (host and port), "scheme" and "region", as far as they are known; other options as they
        are.
    """
    options = dict(parse_qsl(url_options))
    endpoint = options.pop("endpoint_override", None) or _first(_ENDPOINTS)
    match = _SCHEME.fullmatch(endpoint) if endpoint else None
    if endpoint and match is None:
        raise UsageError(f"the endpoint {endpoint!r} is not an address such as http://127.0.0.1:9000")
    if match:
        options["endpoint_override"] = match["host"]
        options["scheme"] = options.get("scheme") or match["scheme"] or "https"
    region = options.get("region") or _first(_REGIONS) or ("us-east-1" if match else None)
    return {**options, **({"region": region} if region else {})}


def _first(names: tuple[str, ...]) -> str | None:
    return next((os.environ[name] for name in names if os.environ.get(name)), None)


def environment() -> tuple[str | None, ...]:
    """What a file system depends on besides its URL."""
    return tuple(os.environ.get(name) for name in (*_ENDPOINTS, *_REGIONS, *_CREDENTIALS))


@lru_cache(maxsize=16)
def opened(store: str, options: str, surroundings: tuple[str | None, ...]) -> tuple[Any, str]:
    """The file system of a bucket, and the bucket's path in it.

    Args:
        store: "s3://bucket".
        options: of the URL.
        surroundings: `environment()`: another one has another file system.

    Raises:
        RelookError: this pyarrow has no such file system.
        OSError, ValueError: of pyarrow, for `store_error`.
    """
    from pyarrow.fs import FileSystem

    given = s3_options(options) if store.startswith("s3:") else dict(parse_qsl(options))
    try:
        files, base = FileSystem.from_uri(f"{store}?{urlencode(given)}" if given else store)
    except NotImplementedError as error:
        raise RelookError(f"{store}: this pyarrow cannot open such a store ({_short(error)})") from None
    return files, str(base).rstrip("/")


def store_error(place: str, options: str, error: BaseException) -> RelookError:
    """What a store or its client says of the object at `place`, as one line with the remedy."""
    reason, at = _short(error), _at(place, options)
    if _NO_BUCKET.search(reason):
        return RelookError(f"{place}: there is no bucket {place.split('/')[2]!r}{at}")
    if _REFUSED.search(reason):
        return RelookError(
            f"{place}: the store refuses access{at}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or what "
            f"your provider reads) to credentials that may use it ({reason})"
        )
    return UnreachableError(
        f"{place}: the store cannot be used{at}; check the address in AWS_ENDPOINT_URL, the region and the "
        f"network ({reason})"
    )


def _at(place: str, options: str) -> str:
    endpoint = s3_options(options).get("endpoint_override") if place.startswith("s3:") else None
    return f" at {endpoint}" if endpoint else ""


def _short(error: BaseException) -> str:
    """The library's words in one line, without the number of the request."""
    return re.sub(r" \(Request ID: [^)]*\)", "", " ".join(str(error).split()))
