"""The section `store`: where global descriptors are searched.

One sub-section per kind of store that has settings, named as the registry names the kind; csv is a table too.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from pipeline.config.section import Section


class TableConfig(Section):
    """The built-in table, whether it lies in Parquet or in CSV."""

    precision: Literal["float32", "float16"] = Field(
        "float32", description="of the vectors in memory; float16 takes half of it and rounds them to 11 bits"
    )
    device: Literal["cpu", "cuda"] = Field("cpu", description="where vectors are held and multiplied")


class StoreConfig(Section):
    """Where global descriptors are searched."""

    kind: str = Field("table", description="table (Parquet) or csv: the index's own tables, searched exactly")
    table: TableConfig = TableConfig()

    @property
    def options(self) -> dict[str, Any]:
        """The settings of the kind that was chosen, as keywords for `open_store`."""
        section = getattr(self, "table" if self.kind == "csv" else self.kind, None)
        return section.model_dump() if isinstance(section, Section) else {}
