"""Which keypoints an index has: those of the configuration, and where it is silent those that the index was made with.

Beside `model_choice.py`, which chooses the rest. Keypoints are no part of the model, so they change alone. The
extractor is loaded where there is something to extract, or where other keypoints are requested.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config import Config, KeypointsConfig
from pipeline.stores import IndexWriter
from pipeline.stores.index.manifest import KeypointsMade, StoredType
from pipeline.types import FittableDescriber, KeypointExtractor

logger = logging.getLogger("relook")

# Keys of `describe.keypoints` that are options of the extractor.
_OPTIONS = ("size", "count", "threshold")


@dataclass(frozen=True)
class KeypointsRequest:
    """Requested keypoints: `checkpoint` and `options` are those of `load_keypoints`, `stored` the type in the index."""

    kind: str
    checkpoint: str | None
    stored: StoredType
    options: Mapping[str, Any]

    def made_by(self, extractor: KeypointExtractor) -> KeypointsMade:
        """What the manifest of an index says of keypoints of this extractor."""
        return KeypointsMade(**extractor.card.to_json(), stored=self.stored, checkpoint=self.checkpoint)

    def is_of(self, made: KeypointsMade | None) -> bool:
        """Whether an index's keypoints follow from this, as far as that is known without loading the extractor."""
        return made is not None and (self.kind, self.checkpoint, self.stored, dict(self.options)) == (
            made.kind,
            made.checkpoint,
            made.stored,
            made.settings,
        )


def requested_keypoints(section: KeypointsConfig, made: KeypointsMade | None) -> KeypointsRequest | None:
    """What a configuration requests of an index: settings that are not given are those that the index was made with.

    Args:
        section: `describe.keypoints`.
        made: of the index, if it has keypoints.

    Returns:
        None: no keypoints.
    """
    given = section.model_dump(exclude_unset=True)
    if made is None or given.get("kind", made.kind) != made.kind:
        if section.kind is None:
            return None
        return KeypointsRequest(section.kind, _absolute(section.checkpoint), section.stored, section.options)
    options = {**made.settings, **{key: given[key] for key in _OPTIONS if key in given}}
    return KeypointsRequest(
        made.kind,
        _absolute(section.checkpoint) if "checkpoint" in given else made.checkpoint,
        section.stored if "stored" in given else made.stored,
        {key: value for key, value in options.items() if value is not None},
    )


def load_requested(request: KeypointsRequest, config: Config) -> KeypointExtractor:
    """What finds requested keypoints. Raises RelookError where its weights cannot be had."""
    from pipeline.describe import load_keypoints
    from pipeline.workflow.model_loading import choose_device

    return load_keypoints(
        request.kind,
        request.checkpoint,
        choose_device(config),
        accept_license=config.accept_license,
        **request.options,
    )


class KeypointsChoice:
    """The keypoints of one run.

    Args:
        writer: of the index.
        config: requests them.
    """

    def __init__(self, writer: IndexWriter, config: Config) -> None:
        self._writer, self._config = writer, config
        there = [index.manifest.keypoints for index in (writer.index, writer.staged) if index]
        self._request = requested_keypoints(config.describe.keypoints, next(filter(None, there), None))
        self._extractor: KeypointExtractor | None = None

    def begin(self) -> None:
        """Have the index that the writer writes keep the requested keypoints, or none.

        Raises:
            RelookError: other keypoints than the index's are requested, and their weights cannot be had.
        """
        index = self._writer.index
        made = index.manifest.keypoints if index else None
        if self._request is None:
            self._writer.use_keypoints(None)
        elif not self._request.is_of(made):
            self.use()

    @property
    def changing(self) -> bool:
        """Whether other keypoints than the index's are requested."""
        made = self._writer.index.manifest.keypoints if self._writer.index else None
        return made is not None if self._request is None else not self._request.is_of(made)

    def use(self) -> None:
        """Have what is added from here on be of the extractor as it is loaded: its weights may have changed."""
        if self._request is None:
            return
        made = self._request.made_by(self.extractor)
        index = self._writer.index
        before = index.manifest.keypoints if index else None
        if before is not None and before.card != made.card:
            logger.info("keypoints of %s take the place of those of %s", made.kind, before.kind)
        self._writer.use_keypoints(made)

    @property
    def missing(self) -> bool:
        """Whether the index has images without the requested keypoints."""
        index = self._writer.index
        return self._request is not None and index is not None and bool(index.without_keypoints())

    @property
    def extractor(self) -> KeypointExtractor:
        """What finds the requested keypoints. Raises RelookError where its weights cannot be had."""
        assert self._request is not None
        if self._extractor is None:
            self._extractor = load_requested(self._request, self._config)
        return self._extractor

    def added_to(self, describer: FittableDescriber) -> FittableDescriber:
        """The describer with the requested keypoints; as it is where there are none."""
        from pipeline.describe import with_keypoints

        return describer if self._request is None else with_keypoints(describer, self.extractor)


def _absolute(file: Path | None) -> str | None:
    return None if file is None else str(file.absolute())
