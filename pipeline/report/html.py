"""A page with the pictures: each query beside its results, before and after the second look.

Written by `search --html` and the demo. One file without scripts or outside links: small pictures are part of it.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader
from PIL import Image

from pipeline.errors import ImageError, RelookError
from pipeline.files import write_bytes
from pipeline.imaging import read_image

_SIDE = 200


def write_page(path: Path, search: Mapping[str, Any], evaluation: Mapping[str, Any] | None = None) -> None:
    """Write the page.

    Args:
        path: the file, replaced if it is there.
        search: a `search` document.
        evaluation: an `evaluate` document to show above it, or None.

    Raises:
        RelookError: the file cannot be written.
    """
    environment = Environment(loader=PackageLoader("pipeline.report"), autoescape=True, trim_blocks=True)
    environment.filters["picture"] = _picture
    text = environment.get_template("search.html").render(search=search, evaluation=evaluation)
    try:
        write_bytes(path, text.encode())
    except OSError as error:
        raise RelookError(f"{path}: cannot be written ({error.strerror})") from None


@lru_cache(maxsize=4096)
def _picture(path: str) -> str:
    """A small JPEG as a data address; an empty one where the photo cannot be read any more."""
    try:
        image = Image.fromarray(read_image(Path(path)).pixels)
    except ImageError:
        return ""
    image.thumbnail((_SIDE, _SIDE))
    data = io.BytesIO()
    image.save(data, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}"
