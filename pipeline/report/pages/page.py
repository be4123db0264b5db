"""Renders a template with what all pages share, and writes the page.

Below every other module of this package but `pictures`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pipeline.files import write_bytes, write_errors
from pipeline.report.pages.pictures import Pictures


def write_page(path: Path, template: str, pictures: Pictures, **values: Any) -> None:
    """Render `templates/NAME.html` and write it to `path`, replacing what is there.

    Raises:
        RelookError: the page or one of its pictures cannot be written.
    """
    from jinja2 import Environment, PackageLoader

    environment = Environment(loader=PackageLoader("pipeline.report.pages"), autoescape=True, trim_blocks=True)
    environment.filters["thumbnail"] = pictures.thumbnail
    environment.filters["link"] = file_address
    environment.filters["name"] = lambda photo: Path(photo).name or photo
    text = environment.get_template(f"{template}.html").render(**values)
    with write_errors(path):
        # A name that is not Unicode has no place in UTF-8: it is shown as an escape such as \udcff.
        write_bytes(path, text.encode("utf-8", "backslashreplace"))
    pictures.remove_old()


def file_address(path: str) -> str:
    """The address file:///... of a photo, for links of a page; "" for no photo."""
    return Path(os.path.abspath(path)).as_uri() if path else ""  # noqa: PTH100 (links are not followed)
