"""The keypoints of an index's images, for rerankers that match: those that the index keeps, else extracted now.

Loaded by the gallery when a reranker needs keypoints. What is extracted for a search is kept beside the index
(`keypoint_cache.py`), so that it is done once per photo.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.config import Config
from pipeline.describe.keypoints import extractor_for_card, keypoints_alone, load_keypoints
from pipeline.rerank.matching.matchers import features_for
from pipeline.stores import Index
from pipeline.types import PICTURE, ImageRecord, KeypointExtractor, Keypoints
from pipeline.workflow.keypoint_cache import KeypointCache, as_kept
from pipeline.workflow.model_loading import choose_device
from pipeline.workflow.progress import Silent
from pipeline.workflow.queries import describe_records

logger = logging.getLogger("relook")


class KeypointSource:
    """Keypoints of one generation of an index.

    Args:
        config: `describe.keypoints`, `rerank.matching` and how photos are read matter here.
        index: the generation.

    Attributes:
        stored: whether the index keeps them.
        extractor: what finds those of queries, and of photos whose keypoints the index does not keep.

    Raises:
        RelookError: the weights cannot be had, or are not those of the index.
    """

    def __init__(self, config: Config, index: Index) -> None:
        self._config, self._index = config, index
        self._lock = threading.Lock()
        self._told = False
        card = index.keypoints_card
        settings = config.rerank.matching
        kind = settings.features or features_for(settings.matcher, card.kind if card else None)
        self.stored = card is not None and card.kind == kind
        options = extractor_options(config, kind)
        device = choose_device(config)
        accepted = config.accept_license
        if self.stored and (made := index.manifest.keypoints):
            checkpoint = options.get("checkpoint", made.checkpoint)
            self.extractor = extractor_for_card(made.card, checkpoint, device, accept_license=accepted)
        else:
            self.extractor = load_keypoints(kind, device=device, accept_license=accepted, **options)
        name = f"keypoints-{self.extractor.card.fingerprint}.sqlite"
        # Reading a photo again costs less than a picture takes.
        self._cache = None if kind == PICTURE else KeypointCache(config.index / "cache" / name)

    def read(self, ids: Sequence[str]) -> list[Keypoints]:
        """Those of images of the index, in the order of `ids`. A photo that cannot be read any more has none."""
        if self.stored:
            return self._index.keypoints(ids)
        with self._lock:  # two searches at once need the same photos: the second one finds them in the cache
            return self._read(ids)

    def _read(self, ids: Sequence[str]) -> list[Keypoints]:
        records = {record.id: record for record in self._index.find_records(ids)}
        found = {} if self._cache is None else self._cache.read(list(records.values()))
        missing = [record for name, record in records.items() if name not in found]
        if missing:
            found |= self._extract(missing)
        return [found[name] for name in ids]

    def _extract(self, records: Sequence[ImageRecord]) -> dict[str, Keypoints]:
        self._tell(len(records))
        photos = [self._index.image_file(record) for record in records]
        alone = keypoints_alone(self.extractor, self._index.card)
        done = describe_records(records, alone, self._config, Silent(), photos)
        found = {
            record.id: description.keypoints
            for record, description in zip(done.records, done.descriptions, strict=True)
            if description.keypoints is not None
        }
        # Under the content that was read: a photo that changed since it was indexed is extracted again each time.
        if self._cache is not None:
            found = {name: as_kept(keypoints) for name, keypoints in found.items()}
            self._cache.keep((record, found[record.id]) for record in done.records if record.id in found)
        if done.failed:
            path, reason = done.failed[0]
            logger.warning(
                "%d photos have no keypoints, since they cannot be read: %s: %s", len(done.failed), path, reason
            )
        nothing = _none(self.extractor)
        return {record.id: found.get(record.id, nothing) for record in records}

    def _tell(self, count: int) -> None:
        level, kind = logging.DEBUG if self._told else logging.INFO, self.extractor.card.kind
        self._told = True
        if kind == PICTURE:
            logger.log(
                level,
                "%s: %d photos are read now, and again in each search: the matcher %s compares pictures",
                *(self._index.directory, count, self._config.rerank.matching.matcher),
            )
            return
        logger.log(
            level,
            "%s: no %s keypoints in the index; %d photos are read for them now (extract with --set "
            "describe.keypoints.kind=%s to keep them)",
            *(self._index.directory, kind, count, kind),
        )


def extractor_options(config: Config, kind: str) -> dict[str, Any]:
    """What `describe.keypoints` sets for keypoints of a kind; nothing where it is about another kind."""
    settings = config.describe.keypoints
    if settings.kind not in (None, kind):
        return {}
    return {**settings.model_dump(exclude={"kind", "stored"}, exclude_unset=True, exclude_none=True)}


def _none(extractor: KeypointExtractor) -> Keypoints:
    """The keypoints of a photo that has none."""
    empty = np.zeros(0, np.float32)
    descriptors = np.zeros((0, extractor.card.dimension), np.float32)
    return Keypoints(np.zeros((0, 2), np.float32), descriptors, empty, empty, empty, (0.0, 0.0, 1.0, 1.0))
