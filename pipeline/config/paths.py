"""Paths as people write them: `~`, `~user`, `$VAR` and `${VAR}` are expanded once, when a configuration is read.

Below `loading`, which expands every setting that is a path or marked with `SOURCE`. Paths that are no settings,
arguments of the command line and of calls in Python, are expanded with `expand_argument`. Later stages get plain paths.
"""

from __future__ import annotations

import os
import re
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pipeline.errors import UsageError

# Marks a text that is a path or NAME:FOLDER, as in Annotated[str | None, SOURCE].
SOURCE = "path or NAME:FOLDER"

_VARIABLE = re.compile(r"\$(?:(?P<double>\$)|(?P<name>[A-Za-z_]\w*)|\{(?P<braced>[^{}]*)\})", re.ASCII)
_NAMED = re.compile(r"[A-Za-z0-9_+.-]{2,}:(?=~)")


def expand_path(text: str) -> str:
    """A path with its home folder and variables filled in.

    A leading `~` or `~user` is a home folder, also after the colon of NAME:FOLDER. `$VAR` and `${VAR}` are variables of
    the environment, `$$` is a dollar sign; a `$` before anything else stays. A name that begins with a tilde is written
    `./~name`.

    Raises:
        UsageError: a variable is not set, or there is no such user.
    """
    filled = _VARIABLE.sub(lambda match: _value_of(match, text), text)
    # The tilde counts as it was written: one that a variable brings is part of a name.
    named = _NAMED.match(text)
    start = named.end() if named else 0
    if not text.startswith("~", start):
        return filled
    try:
        return f"{filled[:start]}{Path(filled[start:]).expanduser()}"
    except RuntimeError:
        user = text[start:].partition("/")[0]
        raise UsageError(
            f"{text}: there is no user {user[1:]!r}; write a name that begins with a tilde as ./{user}"
        ) from None


def expand_argument(text: str) -> str:
    """`expand_path` for an argument, whose file may have such a name: one that exists is taken as it is written.

    What begins with `~/` is always below the home folder. Raises UsageError as `expand_path` does.
    """
    return text if os.path.lexists(text) and text.partition("/")[0] != "~" else expand_path(text)


def expand_settings(model: type[BaseModel], values: Mapping[str, Any], source: str, above: str = "") -> dict[str, Any]:
    """Nested plain values of a configuration with every path among them expanded; other values stay as they are.

    Args:
        model: the section that `values` are of; keys that it does not have stay as they are.
        values: by key.
        source: for messages.
        above: the dotted key of the section, ending in a dot.

    Raises:
        UsageError: a path cannot be expanded; the message names `source`, the key and the path.
    """
    expanded = dict(values)
    for key, value in values.items():
        field = model.model_fields.get(key) if isinstance(key, str) else None
        if field is None:
            continue
        section = _section_of(field)
        if isinstance(value, Mapping) and section is not None:
            expanded[key] = expand_settings(section, value, source, f"{above}{key}.")
        elif isinstance(value, str | Path) and _is_path(field):
            try:
                expanded[key] = expand_path(str(value))
            except UsageError as error:
                raise UsageError(f"{source}: {above}{key} = {error}") from None
    return expanded


def _value_of(match: re.Match[str], text: str) -> str:
    if match["double"]:
        return "$"
    name = match["name"] or match["braced"]
    value = os.environ.get(name) if name else None
    if value is None:
        raise UsageError(f"{text}: the variable {name!r} is not set; set it, or write $$ for a dollar sign")
    return value


def _is_path(field: FieldInfo) -> bool:
    return SOURCE in field.metadata or Path in (field.annotation, *typing.get_args(field.annotation))


def _section_of(field: FieldInfo) -> type[BaseModel] | None:
    kinds = (field.annotation, *typing.get_args(field.annotation))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
