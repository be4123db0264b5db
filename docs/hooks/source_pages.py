"""Pages that show one file or folder of the checkout."""

from __future__ import annotations

import posixpath
from pathlib import Path

LANGUAGES = {".py": "python", ".yaml": "yaml", ".toml": "toml", ".json": "json"}
FRONT = "---\nsearch: {{exclude: true}}\nhide: [toc]\ntitle: {0}\n---\n\n# {0}\n\n"
# Longer than any fence inside a file.
FENCE = "`" * 8


def source_page(root: Path, path: str) -> tuple[str, list[str]]:
    """The Markdown of the page of `path`, and the paths of the other pages that it links to."""
    place = root / path
    if not place.is_dir():
        text = place.read_text(encoding="utf-8")
        return f"{FRONT.format(path)}{FENCE}{LANGUAGES.get(place.suffix, 'text')}\n{text.rstrip()}\n{FENCE}\n", []
    entries = sorted(entry for entry in place.iterdir() if not entry.name.startswith((".", "__")))
    shown = [f"{path}/{entry.name}" for entry in entries if entry.suffix in LANGUAGES]
    lines = [
        f"- [{entry.name}]({posixpath.basename(path)}/{entry.name}.md)"
        if f"{path}/{entry.name}" in shown
        else f"- {entry.name}{'/' if entry.is_dir() else ''}"
        for entry in entries
    ]
    return FRONT.format(path) + "\n".join(lines) + "\n", shown
