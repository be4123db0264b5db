"""Replacing an object only where it is still the one that was read: how two runs never lose each other's work.

pyarrow writes without conditions, so these few requests go through boto3 (`relook[s3]`). Only S3 and servers that speak
its protocol are known to have such writes here.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from pipeline.errors import LockedError, RelookError
from pipeline.faults import fault_point
from pipeline.files.object_store import ObjectPath
from pipeline.files.store_access import environment, s3_options, store_error

# What servers say when the object is not what the condition says: S3's two words, and a missing one with If-Match.
_LOST = {"PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey", "412", "409"}
_MISSING = {"NoSuchKey", "404"}


class ConditionalObject:
    """One small object that several machines replace.

    Args:
        place: where it lies.

    Raises:
        RelookError: the store is not S3, or boto3 is not installed.
    """

    def __init__(self, place: ObjectPath) -> None:
        if not place.store.startswith("s3:"):
            raise RelookError(
                f"{place}: an index is written to s3:// alone, where a write can be bound to a condition; elsewhere "
                "relook reads photos, and indexes that were copied there"
            )
        self._place = place
        try:
            self._client = _client(place.options, environment())
        except ImportError:
            raise RelookError(f"{place}: writing an index to a bucket needs boto3: pip install 'relook[s3]'") from None

    def read(self) -> tuple[bytes, str] | None:
        """Content and tag; None: there is no such object. Raises RelookError where the store refuses."""
        try:
            found = self._call("get_object")
        except _RefusalError as refusal:
            if refusal.code in _MISSING:
                return None
            raise refusal.error from None
        return found["Body"].read(), found["ETag"]

    def replace(self, content: bytes, tag: str | None) -> None:
        """Write where the object still has `tag`; None: where there is none.

        Raises:
            LockedError: another run was first.
            RelookError: the store refuses, or does not heed conditions.
        """
        self._check_conditions()
        fault_point("publish")
        condition = {"IfNoneMatch": "*"} if tag is None else {"IfMatch": tag}
        try:
            self._call("put_object", Body=content, **condition)
        except _RefusalError as refusal:
            if refusal.code not in _LOST:
                raise refusal.error from None
            # Sent again after an answer that was lost, a write meets itself.
            now = self.read()
            if now is None or now[0] != content:
                raise LockedError(f"{self._place}: another run has written it meanwhile") from None
        fault_point("published")

    def _check_conditions(self) -> None:
        """Some servers ignore conditions: an object that is there must not be made a second time."""
        for _ in range(2):
            try:
                self._call("put_object", key=f"{self._place.key}.condition", Body=b"", IfNoneMatch="*")
            except _RefusalError as refusal:
                if refusal.code in _LOST:
                    return
                raise refusal.error from None
        raise RelookError(
            f"{self._place}: the server ignores conditional writes (If-None-Match), so that two runs could lose each "
            "other's work; use one that has them"
        )

    def _call(self, name: str, key: str | None = None, **values: Any) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return getattr(self._client, name)(Bucket=self._place.bucket, Key=key or self._place.key, **values)
        except ClientError as error:
            raise _RefusalError(
                str(error.response["Error"].get("Code", "")), store_error(str(self._place), self._place.options, error)
            ) from None
        except BotoCoreError as error:
            raise store_error(str(self._place), self._place.options, error) from None


class _RefusalError(Exception):
    """What a store answered in place of doing it."""

    def __init__(self, code: str, error: RelookError) -> None:
        super().__init__(code)
        self.code, self.error = code, error


@lru_cache(maxsize=4)
def _client(url_options: str, surroundings: tuple[str | None, ...]) -> Any:
    """boto3's client, which takes a good part of a second to make; another one where the environment is another."""
    import boto3
    from botocore.config import Config

    options = s3_options(url_options)
    host = options.get("endpoint_override")
    config = Config(
        # Other servers do not know the checksums that boto3 sends by itself.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path" if host else "auto"},
    )
    address = f"{options['scheme']}://{host}" if host else None
    return boto3.session.Session().client("s3", endpoint_url=address, region_name=options.get("region"), config=config)
