"""Ids of any text as ids that Pinecone takes: ASCII without NUL, at most 512 characters.

Below the Pinecone store. Almost every id stays as it is; others are escaped so that the order of the escaped ids is the
order of the ids, and those that are too long end in a hash, with the whole id beside the record's metadata.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby

LONGEST = 512
# Where a long id is cut: "~~" and 64 digits follow.
_CUT = LONGEST - 66
_HASH = re.compile(r".*~~[0-9a-f]{64}", re.DOTALL)
# No id is empty there; NUL does not exist there, so it and its neighbour are pairs that sort as they did.
_EMPTY = "\x01"
_LOW = {"\x00": "\x01\x01", "\x01": "\x01\x02"}
_HIGH = re.compile(rb"[\x7e-\xff]")


def stored_id(name: str) -> str:
    """The id under which Pinecone keeps `name`; for a long one, its beginning and a hash (`is_hashed`)."""
    text = "".join(_LOW.get(letter, letter) for letter in name) if "\x00" in name or "\x01" in name else name
    # Bytes of UTF-8 sort as their characters do; "~" is the last printable one, so "~d0" sorts after all of ASCII.
    escaped = _HIGH.sub(lambda found: b"~%02x" % found[0][0], text.encode()).decode() or _EMPTY
    if len(escaped) <= LONGEST:
        return escaped
    return f"{escaped[:_CUT]}~~{hashlib.sha256(name.encode()).hexdigest()}"


def is_hashed(stored: str) -> bool:
    """Whether the id that `stored` stands for has to be looked up."""
    return len(stored) == LONGEST and _HASH.fullmatch(stored) is not None


def original_id(stored: str) -> str:
    """The inverse of `stored_id`, for ids that are not hashed."""
    if stored == _EMPTY:
        return ""
    data = re.sub(rb"~([0-9a-f]{2})", lambda found: bytes.fromhex(found[1].decode()), stored.encode("ascii", "replace"))
    text = data.decode("utf-8", "replace")
    return re.sub("\x01[\x01\x02]", lambda pair: chr(ord(pair[0][1]) - 1), text)


def in_order(stored: Iterable[str], originals: Callable[[Sequence[str]], Sequence[str]]) -> Iterator[str]:
    """The ids, sorted, that sorted `stored` ids stand for.

    Args:
        stored: as the service lists them, sorted.
        originals: what some of them stand for, hashed ones as well.
    """
    for _, alike in groupby(stored, key=lambda one: one[:_CUT]):
        group = list(alike)
        # All others are in order already; a hash says nothing of where a long id belongs among those that begin alike.
        yield from sorted(originals(group)) if len(group) > 1 or is_hashed(group[0]) else [original_id(group[0])]
