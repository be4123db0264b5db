"""The section `store`: where global descriptors are searched.

One sub-section per kind of store that has settings, named as the registry names the kind; csv is a table too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from pipeline.settings import Positive, PositiveFloat, Section


class PineconeConfig(Section):
    """Vectors in Pinecone. The key is no setting: it is read from the variable PINECONE_API_KEY."""

    name: str = Field("relook", description="of the Pinecone index; the first upload creates it")
    collection: Annotated[str, Field(pattern="^[a-z0-9-]{1,40}$")] | None = Field(
        None,
        description="prefix of the namespaces, where several collections share the Pinecone index; null: there is one",
    )
    cloud: Literal["aws", "gcp", "azure"] = Field("aws", description="of a new index")
    region: str = Field("us-east-1", description="of a new index")
    records: Literal["documents", "vectors"] = Field(
        "documents", description="of a new index; vectors: the older kind, which imports Parquet"
    )
    concurrency: Annotated[int, Field(ge=1, le=64)] = Field(
        8, description="requests at once, writes, reads and queries"
    )
    timeout: PositiveFloat = Field(30.0, description="seconds for one request")
    wait: PositiveFloat = Field(300.0, description="seconds until what was written can be read, at most")
    import_wait: PositiveFloat = Field(86400.0, description="seconds for a bulk import")
    resends: Annotated[int, Field(ge=0)] = Field(
        3, description="how often a request that still fails after the SDK's retries is sent again"
    )
    resend_after: PositiveFloat = Field(10.0, description="seconds before each")
    unpromoted: bool = Field(False, description="search this model even where another one is current")


class TableConfig(Section):
    """The built-in table, whether it lies in Parquet or in CSV."""

    precision: Literal["float32", "float16"] = Field(
        "float32", description="of the vectors in memory; float16 takes half of it and rounds them to 11 bits"
    )
    device: Literal["cpu", "cuda"] = Field("cpu", description="where vectors are held and multiplied")


class AnnConfig(Section):
    """The local ann store (docs/ann.md)."""

    directory: Path | None = Field(None, description="holds a folder per model; None: ann in the index directory")
    recall: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.99, description="share of the 100 nearest that a query finds, measured: the number of lists to visit follows"
    )
    flat_below: Positive = Field(8192, description="below this number of vectors all are compared, without lists")


class StoreConfig(Section):
    """Where global descriptors are searched."""

    kind: str = Field(
        "table",
        description="table (Parquet) or csv: the index's own tables, searched exactly; ann: approximate, for millions; "
        "pinecone: that service",
    )
    table: TableConfig = TableConfig()
    ann: AnnConfig = AnnConfig()
    pinecone: PineconeConfig = PineconeConfig()

    @property
    def options(self) -> dict[str, Any]:
        """The settings of the kind that was chosen, as keywords for `open_store`."""
        section = getattr(self, "table" if self.kind == "csv" else self.kind, None)
        return section.model_dump() if isinstance(section, Section) else {}
