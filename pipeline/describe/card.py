"""What a describer writes on its model card: everything that changes a descriptor.

For `describer.py`, whose network torch runs, and `packaged_describer.py`, which has the same card without torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.config import DescribeConfig
from pipeline.types import ModelCard, shortened


def card_settings(
    config: DescribeConfig,
    *,
    p: float | str,
    maps: Mapping[str, Any] | None = None,
    projection: Mapping[str, Any] | None = None,
    detector: str | None = None,
) -> dict[str, Any]:
    """The settings of `ModelCard`.

    Args:
        config: with an input that the backbone can read.
        p: exponent of GeM.
        maps: the channels of feature maps, and what projected them; None: there are none.
        projection: of local descriptors for AMES.
        detector: its weights.
    """
    return shortened(
        {
            "precision": config.precision,
            "image": config.image.model_dump(mode="json", exclude={"max_pixels", "max_bytes"}),
            "globals": {**_globals(config), "p": p},
            "superglobal": config.superglobal.model_dump(mode="json") if config.superglobal else None,
            "locals": {**config.locals.model_dump(mode="json"), "projection": projection, "detector": detector},
            "maps": {**config.maps.model_dump(mode="json"), **(maps or {"channels": 0, "projected_by": None})},
        }
    )


def settings_of(card: ModelCard) -> dict[str, Any]:
    """The options of `load_describer` that make a describer like the one on the card.

    A projection for AMES and a detector are no options: their weights are among the index's fitted arrays. What the
    card says of maps for rerankers follows from the weights.
    """
    card = card.changed("image", icc=card.image.icc).changed("locals", projection=None, detector=None)
    options = card.changed("maps", without=("channels", "projected_by")).settings
    return {**options, "weights": "random" if card.random else "pretrained"}


def _globals(config: DescribeConfig) -> dict[str, Any]:
    """The settings of the global descriptor; those of a whitening from pairs only where there is one."""
    settings = config.globals
    pairs = settings.whiten is not None and settings.whitening == "pairs"
    return settings.model_dump(mode="json", exclude=set() if pairs else {"whitening", "shrinkage"})
