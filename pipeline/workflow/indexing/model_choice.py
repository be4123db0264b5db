"""Which model describes: that of the index where the configuration requests the same, otherwise a new one.

Networks are loaded only where there is something to describe, or where another model is requested.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from pipeline.catalog import Catalog
from pipeline.config import Config
from pipeline.errors import RelookError
from pipeline.stores import Index, IndexWriter
from pipeline.stores.registry import table_format
from pipeline.types import FittableDescriber
from pipeline.workflow.indexing.describer_carrying import carry_describer
from pipeline.workflow.indexing.keypoints_choice import KeypointsChoice
from pipeline.workflow.progress import Reporter
from pipeline.workflow.requested_model import requested_model, with_settings_of

if TYPE_CHECKING:
    from pipeline.workflow.indexing.fitting import FitSample

logger = logging.getLogger("relook")


class ModelChoice:
    """The describer of one run.

    Args:
        writer: of the index.
        config: requests the model.
        reporter: told about the progress of fitting.
        keypoints: which keypoints the describer finds as well.
        change_model: whether another model than the index's may be begun; see `SyncPolicy`.

    Attributes:
        sample: photos that the network saw when projections were fitted; None where none were.
    """

    def __init__(
        self, writer: IndexWriter, config: Config, reporter: Reporter, keypoints: KeypointsChoice, *, change_model: bool
    ) -> None:
        self._writer, self._config, self._change, self._reporter = writer, config, change_model, reporter
        self._keypoints = keypoints
        self._describer: FittableDescriber | None = None
        # What a run of this verb may continue: the index, and a change of model that is under way.
        self._made = [index for index in (writer.index, writer.staged if change_model else None) if index]
        self.sample: FitSample | None = None

    def begin(self, catalog: Catalog) -> None:
        """Have the writer continue the index of the requested model, or begin one.

        Settings of `describe` that are not given are those that the index was made with.

        Raises:
            RelookError: the model cannot be loaded, or is not that of the index and it may not be changed.
        """
        if self._made:
            self._config = with_settings_of(self._made[0], self._config)
        requested, tables = requested_model(self._config), table_format(self._config.store.kind)
        change = self._change
        for index in self._made:
            if index.manifest.asked == requested:
                self._writer.begin(index.card, {}, catalog.root, tables, requested, change_model=change)
                return
        self._describer = self._load(catalog)
        card, head = self._describer.card, self._writer.index
        if change and head is not None and card.fingerprint != head.card.fingerprint:
            differences = "; ".join(card.differences(head.card)[:3])
            logger.info(
                "another model is requested (%s); searches use the present one until it is complete", differences
            )
        self._writer.begin(card, self._describer.fitted(), catalog.root, tables, requested, change_model=change)

    def describer(self) -> FittableDescriber:
        """The describer of the index that the writer writes, with its keypoints."""
        from pipeline.workflow.model_loading import new_describer

        if self._describer is None:
            index = self._writer.index
            assert index is not None
            self._describer = new_describer(self._config)
            self._describer.use_fitted(index.fitted())
        carry_describer(self._writer, self._describer, self._config)
        return self._keypoints.added_to(self._describer)

    def _load(self, catalog: Catalog) -> FittableDescriber:
        """The requested describer; with the projections of an index whose model is otherwise the same."""
        from pipeline.workflow.model_loading import new_describer

        describer = new_describer(self._config)
        if not describer.to_fit:
            return describer
        if self._made and not self._change:
            describer.use_fitted(self._made[0].fitted())
            return describer
        for index in self._made:
            if self._takes_projections_of(index):
                describer.use_fitted(index.fitted())
                return describer
        from pipeline.workflow.indexing.fitting import fit

        self.sample = fit(self._keypoints.added_to(describer), catalog, self._config, self._reporter)
        return describer

    def _takes_projections_of(self, index: Index) -> bool:
        from pipeline.workflow.model_loading import new_describer

        candidate = new_describer(self._config)
        with suppress(RelookError):  # projections of other dimensions
            candidate.use_fitted(index.fitted())
            return not candidate.to_fit and candidate.card.fingerprint == index.card.fingerprint
        return False
