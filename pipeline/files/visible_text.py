"""Text from outside, such as the name of a file, as a terminal may show it: no character in it is obeyed."""

from __future__ import annotations

import re

# Control characters (C0, DEL, C1), the marks that turn the direction of text, and its two separators of lines.
_OBEYED = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def visible(text: str, keep: str = "") -> str:
    r"""The text with what a terminal would obey as escapes of Python, such as "\x1b" or "\n"; `keep` stays as it is."""
    return _OBEYED.sub(lambda found: found[0] if found[0] in keep else _escaped(found[0]), text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
