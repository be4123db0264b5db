"""How a store is reached, and what its errors mean.

Below `object_store` and `conditional_put`. The address and the region come from the URL or the environment; pyarrow and
the providers' clients read credentials by themselves.
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
_GOOGLE_ENDPOINTS = ("STORAGE_EMULATOR_HOST",)
_REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")
_CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE")
_GOOGLE_CREDENTIALS = ("GOOGLE_APPLICATION_CREDENTIALS",)

# Seconds for which Google's clients try again: theirs would be up to fifteen minutes.
RETRY_SECONDS = 30
# What Google says of a bucket that is not there; of an object it gives the same code.
NO_GOOGLE_BUCKET = "The specified bucket does not exist"

_REFUSED = re.compile(
    r"access_?denied|forbidden|invalid_?access_?key|signature_?does_?not_?match|expired_?token|invalid_?token"
    r"|invalid_?client_?token|invalid_?object_?state|permission denied"
    r"|unable to locate credentials|partial credentials"
    r"|unauthenticated|permission_?denied|anonymous caller|default credentials were not found|access token"
    r"|GOOGLE_APPLICATION_CREDENTIALS|File .* was not found",
    re.IGNORECASE,
)
_NO_BUCKET = re.compile(rf"no_?such_?bucket|bucket '[^']*' not found|{NO_GOOGLE_BUCKET}", re.IGNORECASE)


def store_options(store: str, url_options: str) -> dict[str, str]:
    """What the URL and the environment say of a store.

    Args:
        store: "s3://bucket".
        url_options: what follows the question mark of the URL.

    Returns:
        "endpoint_override" (host and port) and "scheme" of another server than the provider's, "region" of S3 and
        "retry_limit_seconds" of Google, as far as they are known; other options as they are.
    """
    if is_google(store):
        return {"retry_limit_seconds": str(RETRY_SECONDS), **_at_endpoint(url_options, _GOOGLE_ENDPOINTS)}
    if not store.startswith("s3:"):
        return dict(parse_qsl(url_options))
    options = _at_endpoint(url_options, _ENDPOINTS)
    region = options.get("region") or _first(_REGIONS) or ("us-east-1" if "endpoint_override" in options else None)
    return {**options, **({"region": region} if region else {})}


def is_google(store: str) -> bool:
    """Whether a store is one of Google's."""
    return store.startswith(("gs:", "gcs:"))


def _at_endpoint(url_options: str, variables: tuple[str, ...]) -> dict[str, str]:
    options = dict(parse_qsl(url_options))
    endpoint = options.pop("endpoint_override", None) or _first(variables)
    match = _SCHEME.fullmatch(endpoint) if endpoint else None
    if endpoint and match is None:
        raise UsageError(f"the endpoint {endpoint!r} is not an address such as http://127.0.0.1:9000")
    if match:
        options["endpoint_override"] = match["host"]
        options["scheme"] = options.get("scheme") or match["scheme"] or "https"
    return options


_VARIABLES = (*_ENDPOINTS, *_REGIONS, *_CREDENTIALS, *_GOOGLE_ENDPOINTS, *_GOOGLE_CREDENTIALS)


def _first(names: tuple[str, ...]) -> str | None:
    return next((os.environ[name] for name in names if os.environ.get(name)), None)


def environment() -> tuple[str | None, ...]:
    """What a file system depends on besides its URL."""
    return tuple(os.environ.get(name) for name in _VARIABLES)


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

    given = store_options(store, options)
    # A server without encryption is a test's or an emulator's, which knows no accounts.
    address = store.replace("://", "://anonymous@") if is_google(store) and given.get("scheme") == "http" else store
    try:
        files, base = FileSystem.from_uri(f"{address}?{urlencode(given)}" if given else address)
    except NotImplementedError as error:
        raise RelookError(f"{store}: this pyarrow cannot open such a store ({_short(error)})") from None
    return files, str(base).rstrip("/")


def store_error(place: str, options: str, error: BaseException) -> RelookError:
    """What a store or its client says of the object at `place`, as one line with the remedy."""
    reason, at = _short(error), _at(place, options)
    credentials, address = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", "the address in AWS_ENDPOINT_URL, the region"
    if is_google(place):
        credentials, address = (
            "GOOGLE_APPLICATION_CREDENTIALS",
            "the address in STORAGE_EMULATOR_HOST, where it is set,",
        )
    if _NO_BUCKET.search(reason):
        return RelookError(f"{place}: there is no bucket {place.split('/')[2]!r}{at}")
    if _REFUSED.search(reason):
        return RelookError(
            f"{place}: the store refuses access{at}; set {credentials} (or what your provider reads) to credentials "
            f"that may use it ({reason})"
        )
    return UnreachableError(f"{place}: the store cannot be used{at}; check {address} and the network ({reason})")


def _at(place: str, options: str) -> str:
    endpoint = store_options(place, options).get("endpoint_override")
    return f" at {endpoint}" if endpoint else ""


def _short(error: BaseException) -> str:
    """The library's words in one line, without the number of the request, and without Google's own account of it."""
    words = re.sub(r" \(Request ID: [^)]*\)", "", " ".join(str(error).split()))
    return re.sub(r"google::cloud::Status\((.*?) error_info=\{.*", r"\1", words)
