"""docs/troubleshooting.md quotes messages as the code says them today."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest
from doc_commands import ROOT

PAGE = ROOT / "docs" / "troubleshooting.md"
MESSAGES = re.findall(r"^\| `(.+?)` \|", PAGE.read_text(encoding="utf-8"), re.M)


@cache
def texts() -> str:
    """Every text of the package, one a line, with … for what is filled in."""
    found = []
    for file in sorted((ROOT / "pipeline").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.append(
                    "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(" ".join(text.split()) for text in found)


def test_there_are_messages() -> None:
    assert len(MESSAGES) >= 25


@pytest.mark.parametrize("message", MESSAGES)
def test_the_code_says_it(message: str) -> None:
    assert message in texts()
