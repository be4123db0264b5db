"""Using what `relook calibrate` found: the links of a chain with the weights, margins and calibrations of the index.

Called when a gallery gives its chain. Settings of the user come first; a file that does not fit is left out, and said.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.checkpoints import split_key
from pipeline.config import Config
from pipeline.files import sha256_of
from pipeline.rerank import RerankStep
from pipeline.stores import Index
from pipeline.workflow.fusion.fusion_file import Fusion, fusion_path, read_fusion
from pipeline.workflow.model_loading import reranker_options

logger = logging.getLogger("relook")


def calibrated_chain(config: Config, index: Index, chain: Sequence[RerankStep]) -> list[RerankStep]:
    """`chain` with the fusion of the index where there is one for it, which is logged; else as it is.

    It is left out where a `rerank.NAME.weight` is set, since that is a weight of scores as they are, and with
    `rerank.calibration = none`. A `rerank.NAME.margin` that is set takes the place of the one that was found.

    Raises:
        RelookError: the file is damaged.
    """
    if config.rerank.calibration == "none" or not chain:
        return list(chain)
    fusion = read_fusion(config.index)
    names = tuple(step.name for step in chain)
    if fusion is None or fusion.chain != names:
        return list(chain)
    path = fusion_path(config.index)
    weighed = [name for name in names if "weight" in config.rerank.settings_of(name).model_fields_set]
    if weighed:
        logger.info("%s: not used, since rerank.%s.weight is set", path, weighed[0])
        return list(chain)
    if reason := misfit(config, index, fusion):
        logger.warning(
            "%s: not used, %s; run: relook calibrate --rerank %s, or: relook calibrate --remove",
            *(path, reason, ",".join(names)),
        )
        return list(chain)
    logger.info("fusing scores as %s says; switch off with --set rerank.calibration=none", path)
    found = []
    for step, fitted in zip(chain, fusion.steps, strict=True):
        own = config.rerank.settings_of(step.name)
        margin = own.margin if "margin" in own.model_fields_set else fitted.margin
        found.append(replace(step, weight=fitted.weight, margin=margin, incoming=fitted.incoming, own=fitted.own))
    return found


def misfit(config: Config, index: Index, fusion: Fusion) -> str:
    """Why a fusion does not fit the index or the settings of its rerankers; "" where it does."""
    if fusion.fingerprint != index.card.fingerprint:
        return f"made for the model {fusion.fingerprint}, the index has {index.card.fingerprint}"
    for step in fusion.steps:
        now = measured_settings(config, index, step.name)
        different = sorted(key for key in {*now, *step.settings} if now.get(key) != step.settings.get(key))
        if different:
            key = different[0]
            was, has = step.settings.get(key), now.get(key)
            return f"rerank.{step.name}.{key} was {was!r} when it was made and is {has!r}"
    return ""


def measured_settings(config: Config, index: Index, name: str) -> dict[str, Any]:
    """What the scores of a reranker depend on: its settings, and the SHA-256 of its checkpoint."""
    options = reranker_options(config, name, index.keypoints_card)
    checkpoint = options.get("checkpoint")
    if checkpoint is not None:
        file = Path(split_key(checkpoint)[0])
        options["checkpoint"] = sha256_of(file) if file.is_file() else str(file)
    values: dict[str, Any] = json.loads(
        json.dumps({"top": config.rerank.settings_of(name).top, **options}, default=str)
    )
    return values
