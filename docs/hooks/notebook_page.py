"""The page of a notebook: its text, its code, and the outputs that are saved in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def notebook_page(file: Path) -> str:
    """The Markdown of the page."""
    cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
    return "\n\n".join(_cell(cell) for cell in cells) + "\n"


def _cell(cell: dict[str, Any]) -> str:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return source
    shown = [_output(one) for one in cell["outputs"]]
    return "\n\n".join([f"```python\n{source}\n```", *(one for one in shown if one)])


def _output(output: dict[str, Any]) -> str:
    if output["output_type"] == "stream":
        return f"```text\n{''.join(output['text']).rstrip()}\n```"
    data = output["data"]
    if "image/jpeg" in data:
        return f'<img alt="output" src="data:image/jpeg;base64,{data["image/jpeg"]}">'
    if "text/html" in data:
        # One line: a blank one would end the block of HTML.
        return f'<div class="output">{" ".join("".join(data["text/html"]).split())}</div>'
    return f"```text\n{''.join(data['text/plain'])}\n```"
