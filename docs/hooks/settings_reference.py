"""The page of the settings: every key of a configuration with its values, default and meaning, from the schema."""

from __future__ import annotations

import json
from typing import Any

from pipeline.stages.config import schema

HEAD = """\
# Settings

Every key of a configuration file, from the schema that `relook config --schema` prints. A file is YAML and is given
with `--config FILE`; `--set KEY=VALUE` overrides one key. `relook config KEY` shows a key or a section in the terminal;
[configs/default.yaml](../../configs/default.yaml) is a file of all defaults.

"""
LIMITS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}


def settings_page() -> str:
    """The Markdown of the page: a heading and a table for each section."""
    whole = schema()
    parts = [HEAD, "## Of every run { #run }\n\n", _table(whole, whole, "")]
    for name, section in whole["properties"].items():
        if _model(whole, section) is not None:
            parts.append(_section(whole, section, name, 2))
    return "".join(parts)


def _section(whole: dict[str, Any], section: dict[str, Any], key: str, level: int) -> str:
    model = _model(whole, section) or {}
    about = model.get("description", "")
    text = (
        f"{'#' * level} `{key}` {{ #{key} }}\n\n" + (f"{about}\n\n" if about else "") + _table(whole, model, f"{key}.")
    )
    for name, inner in model.get("properties", {}).items():
        if _model(whole, inner) is not None:
            text += _section(whole, inner, f"{key}.{name}", min(level + 1, 4))
    return text


def _table(whole: dict[str, Any], model: dict[str, Any], prefix: str) -> str:
    plain = {name: one for name, one in model.get("properties", {}).items() if _model(whole, one) is None}
    rows = [
        f"| `{prefix}{name}` | {_values(one)} | `{json.dumps(one.get('default'))}` | {_meaning(one)} |"
        for name, one in plain.items()
    ]
    return "\n".join(["| key | values | default | |", "|---|---|---|---|", *rows]) + "\n\n" if rows else ""


def _model(whole: dict[str, Any], one: dict[str, Any]) -> dict[str, Any] | None:
    """The section that a key holds, also where it may be null; None for a plain value."""
    for choice in (one, *one.get("anyOf", ())):
        if "$ref" in choice:
            found: dict[str, Any] = whole["$defs"][choice["$ref"].rsplit("/", 1)[1]]
            return found
    return None


def _values(one: dict[str, Any]) -> str:
    if "anyOf" in one:
        return " or ".join(_values(choice) for choice in one["anyOf"])
    if "enum" in one:
        return ", ".join(f"`{value}`" for value in one["enum"])
    if "const" in one:
        return f"`{one['const']}`"
    if one.get("type") == "array":
        inner = one.get("items") or next(iter(one.get("prefixItems", ())), {})
        return f"list of {_values(inner)}" if inner else "list"
    name = {"string": "path" if one.get("format") == "path" else "text", "boolean": "`true`, `false`"}
    limits = "".join(f", {word} {one[limit]:g}" for limit, word in LIMITS.items() if limit in one)
    return name.get(one.get("type", ""), one.get("type", "any")) + limits


def _meaning(one: dict[str, Any]) -> str:
    text: str = one.get("description", "")
    return text.replace("|", "\\|").replace("<", "&lt;")
