"""One index of Pinecone: found by its name, recognised by its schema, created where there is none.

Below the Pinecone store. The key is read from PINECONE_API_KEY by the SDK and nowhere else, and removed from every
message of the service. PINECONE_CONTROLLER_HOST names another service, such as a proxy or a self-hosted server.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from pipeline.errors import RelookError
from pipeline.stores.pinecone.older_control_plane import OlderControlPlane, OlderIndex
from pipeline.stores.pinecone.record_api import DocumentApi, RecordApi, VectorApi
from pipeline.stores.pinecone.requests import KEY, RequestSettings, pinecone_errors, with_resends

if TYPE_CHECKING:
    from pinecone import Index as Client
    from pinecone.models.indexes.index import IndexModel

# The vector field of an index that is created here, and the only one of an index of the older kind.
FIELD = "vector"
OLD_FIELD = "_values"
# Vectors have unit length: their dot product is their cosine.
_METRICS = ("cosine", "dotproduct")
_CREATION_SECONDS = 300
# Statuses by which an earlier control plane refuses a schema.
_UNKNOWN_SCHEMA = (400, 422)

Reply = TypeVar("Reply")


@dataclass(frozen=True)
class RemoteIndex:
    """An index that exists.

    Attributes:
        host: of its data plane.
        dimension: D of its vectors.
        records: the API by which they are read and written.
        client: the SDK's, for what both APIs share.
        imports_parquet: whether bulk import reads Parquet into it; into documents it reads JSON Lines.
        tags: of the index, when it was found.
    """

    host: str
    dimension: int
    records: RecordApi
    client: Client
    imports_parquet: bool
    tags: Mapping[str, str]


class PineconeService:
    """Pinecone, for one index.

    Args:
        name: of the index.
        timeout: seconds for one request.
        settings: how requests are sent.

    Raises:
        RelookError: the SDK is not installed, or there is no key.
    """

    def __init__(self, name: str, timeout: float, settings: RequestSettings) -> None:
        self.name, self.settings = name, settings
        if not os.environ.get(KEY):
            raise RelookError(f"store pinecone: {KEY} is not set; export it (it is read from the environment alone)")
        try:
            from pinecone import Pinecone
        except ModuleNotFoundError:
            raise RelookError("store pinecone: the SDK is missing; run: pip install pinecone orjson") from None
        with pinecone_errors(name):
            self._client = Pinecone(timeout=timeout, source_tag="relook")
        self._older = OlderControlPlane(timeout)
        self._found: RemoteIndex | None = None

    def read(self, request: Callable[[], Reply]) -> Reply:
        """The reply to a request that changes nothing. Raises RelookError after the last resend."""
        return with_resends(self.name, self.settings, request)

    def find(self) -> RemoteIndex | None:
        """The index, or None where there is none of this name. Raises RelookError when it cannot hold descriptors."""
        if self._found is None:
            description = self._describe()
            self._found = None if description is None else self._open(description)
        return self._found

    def create(self, dimension: int, records: str, cloud: str, region: str) -> RemoteIndex:
        """Create the index for `records`: "documents", or "vectors", which bulk import fills from Parquet.

        A control plane of the older shape knows vectors alone.
        """
        from pinecone.errors import ApiError

        field = FIELD if records == "documents" else OLD_FIELD
        description: IndexModel | OlderIndex
        with pinecone_errors(self.name):
            try:
                description = self._client.indexes.create(
                    name=self.name,
                    schema={"fields": {field: {"type": "dense_vector", "dimension": dimension, "metric": "cosine"}}},
                    deployment={"deployment_type": "managed", "cloud": cloud, "region": region},
                    timeout=_CREATION_SECONDS,
                )
            except ApiError as error:
                if error.status_code not in _UNKNOWN_SCHEMA:
                    raise
                try:
                    description = self._older.create(self.name, dimension, cloud, region, _CREATION_SECONDS)
                except RelookError:
                    raise error from None
        self._found = self._open(description)
        return self._found

    def tags(self) -> Mapping[str, str]:
        """The tags of the index, now."""
        description = self._describe()
        return {} if description is None else dict(description.tags or {})

    def tag(self, key: str, value: str) -> None:
        """Set one tag in one step; the others stay."""
        if isinstance(self._describe(), OlderIndex):
            self._older.tag(self.name, key, value)
            return
        with pinecone_errors(self.name):
            self._client.indexes.configure(self.name, tags={key: value})

    def _describe(self) -> IndexModel | OlderIndex | None:
        from pinecone.errors import NotFoundError, ResponseParsingError

        def describe() -> IndexModel | OlderIndex | None:
            try:
                return self._client.indexes.describe(self.name)
            except NotFoundError:
                return None
            except ResponseParsingError:
                found = self._older.describe(self.name)
                if found is None:
                    raise
                return found

        return self.read(describe)

    def _open(self, description: IndexModel | OlderIndex) -> RemoteIndex:
        if isinstance(description, OlderIndex):
            return self._remote(OLD_FIELD, description.dimension, description.metric, True, description)
        fields = {name: field for name, field in description.schema.fields.items() if hasattr(field, "dimension")}
        name = FIELD if FIELD in fields else next(iter(fields), "")
        if not fields or (len(fields) > 1 and name != FIELD):
            raise RelookError(
                f"Pinecone index {self.name}: declares {len(fields)} dense vector fields, none named {FIELD}"
            )
        old = set(description.schema.fields) == {OLD_FIELD}
        dimension: int = getattr(fields[name], "dimension", 0)
        return self._remote(name, dimension, getattr(fields[name], "metric", ""), old, description)

    def _remote(
        self, field: str, dimension: int, metric: str, old: bool, description: IndexModel | OlderIndex
    ) -> RemoteIndex:
        if metric not in _METRICS:
            raise RelookError(f"Pinecone index {self.name}: its metric is {metric}; it must be {' or '.join(_METRICS)}")
        with pinecone_errors(self.name):
            by_host = isinstance(description, OlderIndex)
            client = self._client.index(host=description.host or "") if by_host else self._client.index(self.name)
        records: RecordApi = VectorApi(client) if old else DocumentApi(client, field)
        return RemoteIndex(client.host, dimension, records, client, old, dict(description.tags or {}))
