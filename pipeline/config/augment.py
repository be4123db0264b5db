"""How training pictures are cut and changed: a part of the sections whose trainings read photos.

Below `train_global` and `train_rerank`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from pipeline.config.train_loop import NotNegative
from pipeline.settings import Fraction, Positive, PositiveFloat, Section


class AugmentConfig(Section):
    """How a training picture is changed each time it is seen."""

    size: Positive = Field(224, description="side of the square network input, in pixels")
    area: tuple[PositiveFloat, PositiveFloat] = Field(
        (0.4, 1.0), description="share of the image in the random crop; DELG's code for GLDv2 has 0.08 to 1"
    )
    aspect: tuple[PositiveFloat, PositiveFloat] = Field((3 / 4, 4 / 3), description="aspect ratio of the crop")
    flip: Fraction = Field(0.5, description="probability of a horizontal flip")
    jitter: NotNegative = Field(0.3, description="largest change of brightness, contrast and saturation, as a share")
    hue: Annotated[float, Field(ge=0, le=0.5)] = Field(
        0.05, description="largest rotation of the hue, of a full circle"
    )
    lighting: NotNegative = Field(
        0.0, description="standard deviation of AlexNet's colour noise along ImageNet's axes; DELG's code has 0.1"
    )
    views: Positive | None = Field(
        None,
        description="augmented copies of each image that pass the frozen parts once and are cached; null: no cache",
    )
    views_folder: Path | None = Field(
        None, description="where they are cached for other runs; null: beside the checkpoint, removed at the end"
    )
