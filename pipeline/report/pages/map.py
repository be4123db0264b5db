"""The page of a map: a canvas of points, coloured by label or cluster, with the photo of the point under the pointer.

Written by `map --html`. Points are written into the pixels of a canvas by a short script: 100,000 of them take some
milliseconds, also without a graphics card, where WebGL would be slow.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.report.pages.page import file_address, write_page
from pipeline.report.pages.pictures import Pictures

# With more images than this their thumbnails are not part of the page: the photo itself is shown.
MAX_THUMBNAILS = 1000
_SIDE = 128


def write_map(path: Path, document: Mapping[str, Any]) -> None:
    """Write the page of a `map` document. The page lists names and places of all images: some 60 bytes of each.

    Raises:
        RelookError: the page cannot be written.
    """
    paths = document["paths"]
    folder = os.path.commonpath([Path(one).parent for one in paths])
    pictures = Pictures(path, 0)
    few = len(paths) <= MAX_THUMBNAILS
    data = {
        "xy": _packed(np.array(document["xy"]) * 65535, "<u2"),
        "cluster": _packed(np.array(document["clusters"]), "<u2"),
        "labels": (names := sorted(set(document["labels"]))),
        "label": _packed(np.searchsorted(np.array(names, object), np.array(document["labels"], object)), "<u4"),
        "ids": document["ids"],
        "folder": file_address(folder) + "/",
        "files": [file_address(one).removeprefix(file_address(folder) + "/") for one in paths],
        "thumbnails": [pictures.thumbnail(one, side=_SIDE) for one in paths] if few else [],
    }
    write_page(path, "map", pictures, document=document, data=data)


def _packed(values: Any, kind: str) -> str:
    """Numbers as base64 of little-endian bytes, which a page reads without parsing."""
    return base64.b64encode(np.asarray(values).round().astype(kind).tobytes()).decode()
