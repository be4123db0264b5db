"""Which pictures a backbone can read: models of one input size, and sides that have to be multiples of a patch.

Between the configuration and the describer. The settings that come out are the ones on the model card.
"""

from __future__ import annotations

import logging

from pipeline.config import DescribeConfig, ImageConfig
from pipeline.describe.backbones import Backbone
from pipeline.describe.preprocessing import round_to
from pipeline.errors import RelookError
from pipeline.imaging import target_size

log = logging.getLogger(__name__)


def with_input_of(backbone: Backbone, config: DescribeConfig) -> DescribeConfig:
    """The configuration with an input that the backbone can read.

    A model of one input size reads pictures that are resized (`describe.image.resize = exact`) or cropped to it, at
    scale 1 alone; a warning says what was set.

    Raises:
        RelookError: the sides of pictures would not be multiples of the backbone's patch, or its input is no square.
    """
    image = config.image.model_copy(
        update={
            "mean": config.image.mean or backbone.mean,
            "std": config.image.std or backbone.std,
            "multiple": config.image.multiple or backbone.multiple,
        }
    )
    if backbone.fixed_size is None:
        _check_patch(backbone, image, config)
        return config.model_copy(update={"image": image})
    height, width = backbone.fixed_size
    if height != width:
        raise RelookError(f"{backbone.architecture} reads {width} x {height} pixels only, which is no square")
    if config.maps.levels and config.image.scaling == "tensor":
        raise RelookError(f"describe.image.scaling = tensor: {backbone.architecture} reads one size only; use picture")
    if image.crop != height:
        image = image.model_copy(
            update={"size": height, "resize": "exact", "crop": None, "max_side": None, "multiple": 1}
        )
    fixed = config.model_copy(
        update={
            "image": image,
            "globals": config.globals.model_copy(update={"scales": (1.0,)}),
            "locals": config.locals.model_copy(update={"scales": (1.0,)}),
        }
    )
    if fixed.globals != config.globals or fixed.image.size != config.image.size:
        log.warning(
            "%s reads %d x %d pixels only: describe.image.size = %d, resize = %s, and scale 1 alone",
            *(backbone.architecture, width, height, image.size, image.resize),
        )
    return fixed


def scaled_size(height: int, width: int, scale: float, patch: int) -> tuple[int, int]:
    """(height, width) in pixels of a tensor that is resized by `scale`: rounded down, or to multiples of the patch."""
    if patch > 1:
        return round_to(height * scale, patch), round_to(width * scale, patch)
    return max(1, int(height * scale)), max(1, int(width * scale))


def _check_patch(backbone: Backbone, image: ImageConfig, config: DescribeConfig) -> None:
    multiple = image.multiple or 1
    if multiple % backbone.patch == 0 or image.crop is not None:
        return
    if image.resize == "exact":
        scales = {1.0, *config.globals.scales, *(config.locals.scales if config.locals.count else ())}
        sides = [target_size(1, 1, rule="exact", size=image.size, multiple=multiple, scale=s)[0] for s in scales]
        if all(side % backbone.patch == 0 for side in sides):
            return
    raise RelookError(
        f"describe.image.multiple = {multiple}: {backbone.architecture} reads sides of multiples of {backbone.patch} "
        "pixels; leave it null"
    )
