"""One index of Pinecone: reached by its name, recognised by its schema, made where there is none.

Below the Pinecone store. The key is read from PINECONE_API_KEY by the SDK and nowhere else, and taken out of whatever
the service answers. PINECONE_CONTROLLER_HOST names another service, such as a proxy.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.errors import RelookError
from pipeline.stores.pinecone.api import Documents, Records, Vectors

if TYPE_CHECKING:
    from pinecone import Index as Client
    from pinecone.models.indexes.index import IndexModel

KEY = "PINECONE_API_KEY"
# The vector field of an index that is made here, and the only one that an index of the older kind has.
FIELD = "vector"
OLD_FIELD = "_values"
# Vectors have unit length: their dot product is their cosine.
_METRICS = ("cosine", "dotproduct")
_CREATION_SECONDS = 300


@dataclass(frozen=True)
class Served:
    """An index that exists.

    Attributes:
        host: of its data plane.
        dimension: D of its vectors.
        records: how they are read and written.
        client: the SDK's, for what both APIs share.
        imports_parquet: whether bulk import reads Parquet into it; into documents it reads JSON Lines.
        tags: of the index, as they were when it was found.
    """

    host: str
    dimension: int
    records: Records
    client: Client
    imports_parquet: bool
    tags: Mapping[str, str]


class Service:
    """Pinecone, as far as one index is concerned.

    Args:
        name: of the index.
        timeout: seconds that one request may take.

    Raises:
        RelookError: the SDK is not installed, or there is no key.
    """

    def __init__(self, name: str, timeout: float) -> None:
        self.name = name
        if not os.environ.get(KEY):
            raise RelookError(f"store pinecone: {KEY} is not set; export it (it is read from the environment alone)")
        try:
            from pinecone import Pinecone
        except ModuleNotFoundError:
            raise RelookError("store pinecone: the SDK is missing; run: pip install pinecone orjson") from None
        with speaking(name):
            self._client = Pinecone(timeout=timeout, source_tag="relook")
        self._served: Served | None = None

    def find(self) -> Served | None:
        """The index, or None where there is none of this name. Raises RelookError when it cannot hold descriptors."""
        if self._served is None:
            model = self._describe()
            self._served = None if model is None else self._serve(model)
        return self._served

    def create(self, dimension: int, records: str, cloud: str, region: str) -> Served:
        """Make the index: `records` are "documents", or "vectors", which bulk import fills from Parquet."""
        field = FIELD if records == "documents" else OLD_FIELD
        with speaking(self.name):
            model = self._client.indexes.create(
                name=self.name,
                schema={"fields": {field: {"type": "dense_vector", "dimension": dimension, "metric": "cosine"}}},
                deployment={"deployment_type": "managed", "cloud": cloud, "region": region},
                timeout=_CREATION_SECONDS,
            )
        self._served = self._serve(model)
        return self._served

    def tags(self) -> Mapping[str, str]:
        """What the index is tagged with, now."""
        model = self._describe()
        return {} if model is None else dict(model.tags or {})

    def tag(self, key: str, value: str) -> None:
        """Set one tag in one step; the others stay."""
        with speaking(self.name):
            self._client.indexes.configure(self.name, tags={key: value})

    def _describe(self) -> IndexModel | None:
        from pinecone.errors import NotFoundError

        with speaking(self.name):
            try:
                return self._client.indexes.describe(self.name)
            except NotFoundError:
                return None

    def _serve(self, model: IndexModel) -> Served:
        fields = {name: field for name, field in model.schema.fields.items() if hasattr(field, "dimension")}
        name = FIELD if FIELD in fields else next(iter(fields), "")
        if not fields or (len(fields) > 1 and name != FIELD):
            raise RelookError(
                f"Pinecone index {self.name}: declares {len(fields)} dense vector fields, none named {FIELD}"
            )
        metric: str = getattr(fields[name], "metric", "")
        if metric not in _METRICS:
            raise RelookError(
                f"Pinecone index {self.name}: its metric is {metric}; it has to be {' or '.join(_METRICS)}"
            )
        with speaking(self.name):
            client = self._client.index(self.name)
        old = set(model.schema.fields) == {OLD_FIELD}
        records: Records = Vectors(client) if old else Documents(client, name)
        dimension: int = getattr(fields[name], "dimension", 0)
        return Served(client.host, dimension, records, client, imports_parquet=old, tags=dict(model.tags or {}))


@contextmanager
def speaking(name: str) -> Iterator[None]:
    """What goes wrong with the service ends in one line, without the key."""
    from pinecone.errors import ApiError, PineconeConnectionError, PineconeError, PineconeTimeoutError

    try:
        yield
    except ApiError as error:
        raise RelookError(f"Pinecone index {name}: {_refusal(error.status_code)} ({_clean(error)})") from None
    except PineconeTimeoutError as error:
        raise RelookError(f"Pinecone index {name}: no answer in time ({_clean(error)}); run it again") from None
    except PineconeConnectionError as error:
        raise RelookError(f"Pinecone index {name}: cannot be reached ({_clean(error)}); run it again") from None
    except PineconeError as error:
        raise RelookError(f"Pinecone index {name}: {_clean(error)}") from None


def _refusal(status: int) -> str:
    known = {
        401: f"the key in {KEY} is refused",
        402: "the account has to be paid for",
        403: "the account does not allow it, or is full",
        429: "too many requests, or a monthly limit is used up; run it again later",
    }
    return known.get(status, "failed; run it again" if status >= 500 else "refused")


def _clean(error: Any) -> str:
    text, key = " ".join(str(error).split()), os.environ.get(KEY, "")
    return text.replace(key, "***") if key else text
