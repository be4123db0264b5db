"""Text from outside, such as the name of a file, as a terminal may show it: no character in it is obeyed.

Beside the flow: used by the tables of this room, and by the streams and logs of the CLI.
"""

from __future__ import annotations

import re

from rich.text import Text

# Control characters (C0, DEL, C1), the marks that turn the direction of text, and its two separators of lines.
_OBEYED = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def visible(text: str, keep: str = "") -> str:
    r"""The text with what a terminal would obey as escapes of Python, such as "\x1b" or "\n"; `keep` stays as it is."""
    return _OBEYED.sub(lambda found: found[0] if found[0] in keep else _escaped(found[0]), text)


def shown(text: str, style: str = "") -> Text:
    """The text for a cell or a title of a table: `visible`, and its brackets are no markup."""
    return Text(visible(text), style=style)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
