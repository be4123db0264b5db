"""The photos of an index, for a training that reads them again.

Made by `train-rerank`, used by recipes that train the describer too. A photo that can no longer be read ends the
training, because the training set would no longer be that of the index.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from pipeline.config import Config
from pipeline.describe import Failed, describe_stream
from pipeline.describe.describer import NetworkDescriber
from pipeline.describe.preprocessing import clip
from pipeline.errors import RelookError
from pipeline.train import Photos
from pipeline.types import Describer, Description
from pipeline.workflow.model_loading import open_describer, read_options
from pipeline.workflow.opened_index import OpenedIndex


def index_photos(gallery: OpenedIndex, config: Config) -> Photos:
    """See `Photos`; read as `describe.image` and `extract` say."""
    index, limits = gallery.index, read_options(config)

    def describer() -> NetworkDescriber:
        made = open_describer(config, index, carried=False)
        assert isinstance(made, NetworkDescriber)
        return made

    def pixels(name: str) -> npt.NDArray[np.uint8]:
        record = index.records[name]
        file = limits.read(index.image_file(record), icc=index.card.image.icc)
        if record.bbox is None:
            return file.pixels
        height, width = file.pixels.shape[:2]
        left, top, right, bottom = clip(record.bbox, width, height)
        return file.pixels[top:bottom, left:right]

    def describe(using: Describer, ids: Sequence[str]) -> list[Description]:
        # Results come in another order: each has its place in the list as its id.
        records = [replace(index.records[name], id=str(row)) for row, name in enumerate(ids)]
        found: dict[int, Description] = {}
        for item in describe_stream(using, records, index.image_file, read_options(config)):
            if isinstance(item, Failed):
                raise RelookError(f"{item.record.path}: can no longer be read ({item.reason}); extract again")
            found[int(item.record.id)] = item.description
        return [found[row] for row in range(len(ids))]

    def content(name: str) -> str:
        record = index.records[name]
        return f"{record.sha256} {record.bbox}"

    return Photos(describer, pixels, content, describe)
