"""The section `store`: where global descriptors are searched.

One sub-section per kind of store that has settings, named as the registry names the kind.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from pipeline.config.section import Section


class StoreConfig(Section):
    """Where global descriptors are searched."""

    kind: str = Field("table", description="table (Parquet) or csv: the index's own tables, searched exactly")

    @property
    def options(self) -> dict[str, Any]:
        """The settings of the kind that was chosen, as keywords for `open_store`."""
        section = getattr(self, self.kind, None)
        return section.model_dump() if isinstance(section, Section) else {}
