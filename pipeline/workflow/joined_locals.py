"""Local descriptors of another index of the same photos, joined by id: `rerank.locals_from`.

Loaded by the gallery. Candidates and their similarities come from the index that is searched, what a reranker compares
from the other one, as AMES re-ranks SuperGlobal's list. Either index stays as it is, with a model of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.config import Config
from pipeline.errors import RelookError
from pipeline.stores import Index
from pipeline.stores.once import once_property
from pipeline.types import Describer, LocalDescriptors, ModelCard
from pipeline.workflow.model_loading import open_describer


class JoinedLocals:
    """The local descriptors of the index at `path`, for the images of another index.

    Args:
        config: of the run; `index` and `device` matter here.
        path: of the other index.

    Raises:
        RelookError: it is no index, or has no local descriptors.
    """

    def __init__(self, config: Config, path: Path) -> None:
        self._config, self.index = config, Index(path)
        if not self.card.local_dimension:
            raise RelookError(
                f"{path}: has no local descriptors (rerank.locals_from); extract with --set describe.locals.count=50"
            )

    @property
    def card(self) -> ModelCard:
        """What made them."""
        return self.index.card

    @once_property
    def describer(self) -> Describer:
        """What makes those of queries. Raises RelookError where it cannot be had."""
        own = Config(index=self.index.directory, device=self._config.device)
        return open_describer(own, self.index)

    def read(self, ids: Sequence[str]) -> list[LocalDescriptors]:
        """Those of images, in the order of `ids`. Raises RelookError that names an id which is not there."""
        missing = [name for name, known in zip(ids, self.index.has(ids), strict=True) if not known]
        if missing:
            raise RelookError(
                f"{self.index.directory}: has no image {missing[0]!r}, which {self._config.index} has "
                "(rerank.locals_from); extract both from the same photos"
            )
        return self.index.locals(ids)

    def close(self) -> None:
        """Close the files."""
        self.index.close()
