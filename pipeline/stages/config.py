"""`config`: every setting, its value and its meaning; as a table, a commented YAML file, or a JSON schema.

Reads the model of the configuration, so that what it says is what is checked.
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import yaml
from pydantic import BaseModel

from pipeline.config import Config
from pipeline.errors import unknown_name

_HEADER = """\
# Every setting with its default and its meaning; written by: relook config --yaml
# Copy what you change into a file of your own (--config FILE), or override single keys with --set KEY=VALUE.

"""


@dataclass(frozen=True)
class Setting:
    """One key: its `value` in this run, its `default`, the `type` of values that it takes, and its `meaning`."""

    key: str
    value: Any
    default: Any
    type: str
    meaning: str


def settings(config: Config, key: str | None = None) -> list[Setting]:
    """Every setting in the order of `configs/default.yaml`.

    Args:
        config: whose values are shown.
        key: only this key, or this section; None: all.

    Raises:
        UsageError: there is no such key.
    """
    found = list(_settings(Config, config.model_dump(mode="json"), Config().model_dump(mode="json"), ""))
    if key is None:
        return found
    chosen = [one for one in found if one.key == key or one.key.startswith(f"{key}.")]
    if not chosen:
        raise unknown_name("setting", key, [one.key for one in found])
    return chosen


def schema() -> dict[str, Any]:
    """The JSON schema of a configuration file."""
    return Config.model_json_schema()


def to_yaml(config: Config) -> str:
    """A configuration file of every setting, with its meaning as a comment; of the defaults, `configs/default.yaml`."""
    return _HEADER + "".join(_yaml_lines(Config, config.model_dump(mode="json"), ""))


def to_json(found: list[Setting]) -> dict[str, Any]:
    """Plain values, for `--json`."""
    return {"settings": [asdict(one) for one in found]}


def _settings(model: type[BaseModel], values: Any, defaults: Any, prefix: str) -> Iterator[Setting]:
    for name, field in model.model_fields.items():
        key = f"{prefix}{name}"
        value = values.get(name) if isinstance(values, dict) else None
        default = defaults.get(name) if isinstance(defaults, dict) else None
        section = _section(field.annotation)
        if section is None:
            yield Setting(key, value, default, _type(field.annotation), field.description or "")
        elif default is None and value is None:  # a section that is off unless it is written
            yield Setting(key, None, None, "section or null", field.description or section.__doc__ or "")
        else:
            yield from _settings(section, value, default, f"{key}.")


def _yaml_lines(model: type[BaseModel], values: dict[str, Any], indent: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        section, value = _section(field.annotation), values[name]
        if section is None or value is None:
            comment = f"  # {field.description}" if field.description else ""
            yield f"{indent}{name}: {_yaml_value(value)}{comment}\n"
        else:
            meaning = (section.__doc__ or "").partition("\n")[0]
            yield f"{indent}{name}:  # {meaning}\n"
            yield from _yaml_lines(section, value, f"{indent}  ")


def _yaml_value(value: Any) -> str:
    """A value on one line."""
    text: str = yaml.safe_dump(value, default_flow_style=True, width=math.inf, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")


def _section(annotation: Any) -> type[BaseModel] | None:
    """The section that a field holds, also where it may be null."""
    for candidate in (annotation, *typing.get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _type(annotation: Any) -> str:
    """How a value is written, in a few words."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return " | ".join(str(value) for value in arguments)
    if origin is typing.Annotated:
        return _type(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return " | ".join(_type(part) for part in arguments)
    if origin is tuple:
        return f"list of {_type(arguments[0])}"
    names = {"NoneType": "null", "str": "text", "int": "integer", "float": "number", "bool": "true | false"}
    name = getattr(annotation, "__name__", str(annotation))
    return "path" if name == "Path" else names.get(name, name)
