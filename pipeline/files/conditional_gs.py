"""Conditional writes to Google Cloud Storage, through Google's own client. Used by `conditional_put`.

The tag of an object is its generation, a number that every write changes: `ifGenerationMatch` binds a write to it, and
generation 0 is an object that is not there.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from google.api_core.exceptions import Conflict, GoogleAPIError, NotFound, PreconditionFailed
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import GoogleAuthError
from google.cloud.storage import Client
from google.cloud.storage.retry import DEFAULT_RETRY
from requests.exceptions import RequestException

from pipeline.errors import RelookError
from pipeline.files.conditional_requests import ConditionFailedError
from pipeline.files.object_store import ObjectPath
from pipeline.files.store_access import NO_GOOGLE_BUCKET, RETRY_SECONDS, environment, store_error, store_options

_ERRORS = (GoogleAPIError, GoogleAuthError, RequestException, OSError, ValueError)


class GoogleRequests:
    """See `ConditionalRequests`.

    Args:
        place: an object of the bucket.
    """

    def __init__(self, place: ObjectPath) -> None:
        self._place = place
        self._retry = DEFAULT_RETRY.with_timeout(RETRY_SECONDS)

    def read(self, key: str) -> tuple[bytes, str] | None:
        """See `ConditionalRequests`."""
        blob = self._blob(key)
        while True:
            try:
                blob.reload(retry=self._retry)
                return blob.download_as_bytes(if_generation_match=blob.generation, retry=self._retry), str(
                    blob.generation
                )
            except PreconditionFailed:  # written in between: read that
                continue
            except NotFound as error:
                if NO_GOOGLE_BUCKET in str(error):
                    raise self._error(error) from None
                return None
            except _ERRORS as error:
                raise self._error(error) from None

    def write(self, key: str, content: bytes, tag: str | None) -> None:
        """See `ConditionalRequests`."""
        try:
            self._blob(key).upload_from_string(content, if_generation_match=int(tag or 0), retry=self._retry)
        except (PreconditionFailed, Conflict):
            raise ConditionFailedError from None
        except _ERRORS as error:
            raise self._error(error) from None

    def _blob(self, key: str) -> Any:
        try:
            client = _client(self._place.store, self._place.options, environment())
        except _ERRORS as error:
            raise self._error(error) from None
        return client.bucket(self._place.bucket).blob(key)

    def _error(self, error: BaseException) -> RelookError:
        return store_error(str(self._place), self._place.options, error)


@lru_cache(maxsize=4)
def _client(store: str, url_options: str, surroundings: tuple[str | None, ...]) -> Any:
    """Google's client; another one where the environment is another."""
    options = store_options(store, url_options)
    host = options.get("endpoint_override")
    if host is None:
        return Client(project=None)
    anonymous = AnonymousCredentials() if options["scheme"] == "http" else None
    return Client(project=None, credentials=anonymous, client_options={"api_endpoint": f"{options['scheme']}://{host}"})
