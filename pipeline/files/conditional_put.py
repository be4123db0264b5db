"""Replacing an object only where it is still the one that was read: how two runs never lose each other's work.

pyarrow writes without conditions, so these few requests go through the client of the provider: boto3 for S3 and servers
that speak its protocol (`relook[s3]`), Google's own for its storage (`relook[gs]`).
"""

from __future__ import annotations

from pipeline.errors import LockedError, RelookError
from pipeline.faults import fault_point
from pipeline.files.conditional_requests import ConditionalRequests, ConditionFailedError
from pipeline.files.object_store import ObjectPath


class ConditionalObject:
    """One small object that several machines replace.

    Args:
        place: where it lies.

    Raises:
        RelookError: the store has no conditional writes, or its client is not installed.
    """

    def __init__(self, place: ObjectPath) -> None:
        self._place, self._requests = place, _requests(place)

    def read(self) -> tuple[bytes, str] | None:
        """Content and tag; None: there is no such object. Raises RelookError where the store refuses."""
        return self._requests.read(self._place.key)

    def replace(self, content: bytes, tag: str | None) -> None:
        """Write where the object still has `tag`; None: where there is none.

        Raises:
            LockedError: another run was first.
            RelookError: the store refuses, or does not heed conditions.
        """
        self._check_conditions()
        fault_point("publish")
        try:
            self._requests.write(self._place.key, content, tag)
        except ConditionFailedError:
            # Sent again after an answer that was lost, a write meets itself.
            now = self.read()
            if now is None or now[0] != content:
                raise LockedError(f"{self._place}: another run has written it meanwhile") from None
        fault_point("published")

    def _check_conditions(self) -> None:
        """Some servers ignore conditions: an object that is there must not be made a second time."""
        for _ in range(2):
            try:
                self._requests.write(f"{self._place.key}.condition", b"", None)
            except ConditionFailedError:
                return
        raise RelookError(
            f"{self._place}: the server ignores conditional writes, so that two runs could lose each other's work; "
            "use one that has them"
        )


def _requests(place: ObjectPath) -> ConditionalRequests:
    """By the scheme; the client is imported here, which takes a good part of a second."""
    scheme = place.store.partition(":")[0]
    try:
        if scheme == "s3":
            from pipeline.files.conditional_s3 import S3Requests

            return S3Requests(place)
        if scheme in ("gs", "gcs"):
            from pipeline.files.conditional_gs import GoogleRequests

            return GoogleRequests(place)
    except ImportError:
        client, extra = ("boto3", "s3") if scheme == "s3" else ("google-cloud-storage", "gs")
        raise RelookError(
            f"{place}: writing an index to a bucket needs {client}: pip install 'relook[{extra}]'"
        ) from None
    raise RelookError(
        f"{place}: an index is written to s3:// and gs:// alone, where a write can be bound to a condition; elsewhere "
        "relook reads photos, and indexes that were copied there"
    )
