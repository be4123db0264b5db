"""Cells and titles of tables in the terminal that hold text from outside.

Below the tables of this room.
"""

from __future__ import annotations

from rich.text import Text

from pipeline.files import visible


def shown(text: str, style: str = "") -> Text:
    """The text with its control characters escaped; brackets in it are no markup."""
    return Text(visible(text), style=style)
