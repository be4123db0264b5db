"""Reading a configuration: a YAML file, then `--set a.b=c`, checked against `Config`.

An unknown key is an error with the nearest known one; a value of the wrong type is one that names key and value. Paths
are expanded here, once.
"""

from __future__ import annotations

import difflib
import reprlib
import types
import typing
from collections.abc import Mapping, Sequence
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from pipeline.config.paths import expand_path, expand_settings
from pipeline.config.run import Config
from pipeline.errors import UsageError

# A configuration of every key takes some 12 kB and holds less than a thousand values.
_MOST_BYTES = 1_000_000
_MOST_VALUES = 10_000

# A value such as 2020-13-45 looks like a date and raises ValueError; endless nesting raises RecursionError.
YAML_ERRORS = (yaml.YAMLError, ValueError, RecursionError)

# How a wrong value is shown: not all of it where it is long.
_short = reprlib.Repr()
_short.maxstring = _short.maxother = 200


def load_config(file: Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """Read a configuration.

    Args:
        file: a YAML file of any subset of `Config`; None: the defaults.
        overrides: "a.b=value" each, applied after the file; the value is read as YAML.

    Raises:
        UsageError: the file cannot be read, a key is unknown, or a value is not of its type.
    """
    values: dict[str, Any] = {}
    if file:
        values = expand_settings(Config, _read_yaml(Path(expand_path(str(file)))), str(file))
        _checked(values, source=str(file))
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise UsageError(f"--set {override}: expected KEY=VALUE, such as describe.image.size=224")
        _put_expanded(values, key.strip(), _parse(override, text), "--set")
    return _checked(values, source="--set")


def with_values(config: Config, values: Mapping[str, Any], source: str) -> Config:
    """`config` with other values by dotted key. Raises UsageError naming `source`, the key and the value."""
    plain = config.model_dump(mode="json", exclude_unset=True)
    for key, value in values.items():
        _put_expanded(plain, key, value, source)
    return _checked(plain, source)


def parse_config(values: Mapping[str, Any], source: str) -> Config:
    """Build a `Config` from nested plain values. Raises UsageError naming `source`, the key and the value."""
    return _checked(expand_settings(Config, values, source), source)


def _checked(values: Mapping[str, Any], source: str) -> Config:
    """A `Config` of values whose paths are expanded already: that happens once."""
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise UsageError(f"{source}: {_explain(error)}") from None


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        with file.open(encoding="utf-8") as stream:
            text = stream.read(_MOST_BYTES + 1)
        if len(text) > _MOST_BYTES:
            raise UsageError(f"{file}: too long for a configuration, more than {_MOST_BYTES:,} characters")
        values = _load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: cannot read the configuration ({error})") from None
    except YAML_ERRORS as error:
        raise UsageError(f"{file}: not valid YAML ({' '.join(str(error).split())})") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UsageError(f"{file}: expected keys and values, found {type(values).__name__}")
    return values


def _load(text: str) -> Any:
    """Plain values of YAML: no tags but the standard ones, and anchors that do not multiply without end."""
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _values_of(node, {}) > _MOST_VALUES:
            raise yaml.YAMLError(f"its anchors make more than {_MOST_VALUES:,} values of it")
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _values_of(node: yaml.Node, known: dict[yaml.Node, int | None]) -> int:
    """How many values a node stands for, those below an anchor counted each time that it is named."""
    if node not in known:
        known[node] = None  # until it is counted
        inner: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            inner = list(node.value)
        elif isinstance(node, yaml.MappingNode):
            inner = [part for pair in node.value for part in pair]
        known[node] = 1 + sum(_values_of(part, known) for part in inner)
    count = known[node]
    if count is None:
        raise yaml.YAMLError("an anchor holds itself")
    return count


def _parse(override: str, text: str) -> Any:
    try:
        return _load(text)
    except YAML_ERRORS:
        raise UsageError(f"--set {override}: the value is not valid YAML; put it in quotes") from None


def _put_expanded(values: dict[str, Any], key: str, value: Any, source: str) -> None:
    """Set a dotted key to a value whose paths are expanded first."""
    keys = key.split(".")
    alone: dict[str, Any] = {}
    _put(alone, keys, value)
    _put(values, keys, reduce(getitem, keys, expand_settings(Config, alone, source)))


def _put(values: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        inner = values.setdefault(key, {})
        if not isinstance(inner, dict):
            inner = values[key] = {}
        values = inner
    values[keys[-1]] = value


def _explain(error: ValidationError) -> str:
    first, *others = error.errors()
    location = _written(first["loc"])
    key = ".".join(location)
    if first["type"] == "extra_forbidden":
        known = _fields_at(location[:-1])
        nearest = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.5)
        hint = f"did you mean {'.'.join([*location[:-1], nearest[0]])}?" if nearest else f"known: {', '.join(known)}"
        return f"unknown key {key}; {hint}"
    reasons = [first["msg"], *(other["msg"] for other in others if _written(other["loc"]) == location)]
    return f"{key} = {_short.repr(first['input'])}: {', or '.join(reasons)}"


def _written(location: Sequence[str | int]) -> list[str]:
    """The keys as the user wrote them: for a union pydantic appends the name of the member that it tried."""
    keys: list[str] = []
    model: Any = Config
    for part in location:
        fields = getattr(model, "model_fields", {})
        if fields or isinstance(part, int):
            keys.append(str(part))
        model = _section(fields[part].annotation) if part in fields else None
    return keys


def _fields_at(location: Sequence[str]) -> list[str]:
    model: type[BaseModel] = Config
    for name in location:
        model = _section(model.model_fields[name].annotation)
    return sorted(model.model_fields)


def _section(annotation: Any) -> Any:
    """The section of a field that may also be None."""
    if isinstance(annotation, types.UnionType):
        return typing.get_args(annotation)[0]
    return annotation
