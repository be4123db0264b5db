"""What the shards of one extraction have in common: the settings that a descriptor depends on.

Between the plan, which keeps them, and a shard's command, which may leave them out but not contradict them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.config import Config, DescribeConfig
from pipeline.errors import UsageError
from pipeline.workflow.model_loading import choose_device, read_options
from pipeline.workflow.requested_model import requested_model


def common_settings(config: Config) -> dict[str, Any]:
    """The settings of the shard that begins, in plain JSON values and with absolute paths."""
    describe = {
        **requested_model(config)["describe"],
        "keypoints": config.describe.keypoints.model_dump(mode="json", exclude_unset=True),
        "runtime": config.describe.runtime,
    }
    return {
        "catalog": _catalog(config, given=False),
        "describe": describe,
        "device": choose_device(config),
        "extract": {"batch_size": read_options(config).batch_size, "part_size": config.extract.part_size},
        "seed": config.seed,
    }


def with_common(config: Config, common: Mapping[str, Any], plan: Path) -> Config:
    """The configuration of a shard: what it has of its own, and the common settings.

    Args:
        config: of its command.
        common: what `common_settings` returned.
        plan: what errors name.

    Raises:
        UsageError: the command gives a setting another value.
    """
    describe = DescribeConfig.model_validate(common["describe"])
    full = _over(describe.model_dump(mode="json"), common["describe"])
    have = dict(_leaves({**common, "describe": full}))
    for key, value in _leaves(_given(config)):
        there = have.get(key)
        if value != there:
            raise UsageError(
                f"{plan}: {key} = {value!r} here, but the shards were begun with {there!r}; give every shard the same "
                f"settings, or remove {plan.parent} to begin again"
            )
    extract = config.extract.model_copy(update=common["extract"])
    return config.model_copy(
        update={"describe": describe, "extract": extract, "seed": common["seed"], "device": common["device"]}
    )


def _given(config: Config) -> dict[str, Any]:
    """What a command says itself."""
    keypoints = config.describe.keypoints.model_dump(mode="json", exclude_unset=True)
    describe = {**requested_model(config)["describe"], "keypoints": keypoints}
    if "runtime" in config.describe.model_fields_set:
        describe["runtime"] = config.describe.runtime
    extract = config.extract.model_dump(exclude_unset=True, include={"batch_size", "part_size"})
    return {
        "catalog": _catalog(config, given=True),
        "describe": describe,
        "device": choose_device(config),
        "extract": {key: value for key, value in extract.items() if value is not None},
        **({"seed": config.seed} if "seed" in config.model_fields_set else {}),
    }


def _catalog(config: Config, *, given: bool) -> dict[str, Any]:
    values = config.catalog.model_dump(mode="json", exclude_unset=given, exclude={"images"})
    if values.get("labels_file"):
        values["labels_file"] = str(Path(values["labels_file"]).absolute())
    return values


def _over(values: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """`values` with those of `others` in their places, at every level."""
    return {
        key: _over(value, others[key]) if isinstance(value, Mapping) and key in others else others.get(key, value)
        for key, value in values.items()
    }


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
