"""Cells of tables that people open in a spreadsheet: none of them is run as a formula."""

from __future__ import annotations

import re

# What spreadsheets take for a formula, and what `escape_formula` makes of that.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_ESCAPED = re.compile(r"'+[=+\-@\t\r]")


def escape_formula(text: str) -> str:
    """`text`, with an apostrophe before it where a spreadsheet would run it: =1+1, but also -copy(1).jpg.

    For tables that people open; those that only programs read hold names and labels as they are.
    """
    return f"'{text}" if _FORMULA.match(text) else text


def unescape_formula(cell: str) -> str:
    """The text that `escape_formula` made a cell of."""
    return cell[1:] if _ESCAPED.match(cell) else cell
