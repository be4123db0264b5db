"""Conditional writes to S3 and to servers that speak its protocol, through boto3. Used by `conditional_put`.

The tag of an object is its ETag: `If-Match` and `If-None-Match` bind a write to it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from pipeline.errors import RelookError
from pipeline.files.conditional_requests import ConditionFailedError
from pipeline.files.object_store import ObjectPath
from pipeline.files.store_access import environment, store_error, store_options

# What servers say when the object is not what the condition says: S3's two words, and a missing one with If-Match.
_LOST = {"PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey", "412", "409"}
_MISSING = {"NoSuchKey", "404"}


class S3Requests:
    """See `ConditionalRequests`.

    Args:
        place: an object of the bucket.
    """

    def __init__(self, place: ObjectPath) -> None:
        self._place = place
        self._client = _client(place.store, place.options, environment())

    def read(self, key: str) -> tuple[bytes, str] | None:
        """See `ConditionalRequests`."""
        try:
            found = self._call("get_object", Key=key)
        except _RefusalError as refusal:
            if refusal.code in _MISSING:
                return None
            raise refusal.error from None
        return found["Body"].read(), found["ETag"]

    def write(self, key: str, content: bytes, tag: str | None) -> None:
        """See `ConditionalRequests`."""
        condition = {"IfNoneMatch": "*"} if tag is None else {"IfMatch": tag}
        try:
            self._call("put_object", Key=key, Body=content, **condition)
        except _RefusalError as refusal:
            if refusal.code in _LOST:
                raise ConditionFailedError from None
            raise refusal.error from None

    def _call(self, name: str, **values: Any) -> Any:
        try:
            return getattr(self._client, name)(Bucket=self._place.bucket, **values)
        except ClientError as error:
            raise _RefusalError(str(error.response["Error"].get("Code", "")), self._error(error)) from None
        except BotoCoreError as error:
            raise self._error(error) from None

    def _error(self, error: BaseException) -> RelookError:
        return store_error(str(self._place), self._place.options, error)


class _RefusalError(Exception):
    """What a store answered in place of doing it."""

    def __init__(self, code: str, error: RelookError) -> None:
        super().__init__(code)
        self.code, self.error = code, error


@lru_cache(maxsize=4)
def _client(store: str, url_options: str, surroundings: tuple[str | None, ...]) -> Any:
    """boto3's client, which takes a good part of a second to make; another one where the environment is another."""
    options = store_options(store, url_options)
    host = options.get("endpoint_override")
    config = Config(
        # Other servers do not know the checksums that boto3 sends by itself.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path" if host else "auto"},
    )
    address = f"{options['scheme']}://{host}" if host else None
    return boto3.session.Session().client("s3", endpoint_url=address, region_name=options.get("region"), config=config)
