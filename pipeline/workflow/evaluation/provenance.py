"""Where figures come from: versions, machine, model, checkpoints, bytes per image and the time that extraction took.

What `evaluate` writes beside its figures, so that another can tell whether they should come out the same.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from pipeline import __version__
from pipeline.checkpoints import split_key
from pipeline.config import Config
from pipeline.files import sha256_of
from pipeline.stores import Index
from pipeline.workflow.model_loading import choose_device, reranker_options

_LIBRARIES = ("torch", "timm", "numpy", "scipy", "pillow", "opencv-python-headless", "pyarrow", "h5py", "safetensors")


def provenance(config: Config, index: Index) -> dict[str, Any]:
    """Versions, machine, fingerprints: plain values."""
    return {
        "relook": __version__,
        "python": platform.python_version(),
        "libraries": {name: version for name in _LIBRARIES if (version := _version(name))},
        "machine": _machine(config),
        "index": {
            "generation": index.manifest.generation,
            "fingerprint": index.manifest.fingerprint,
            "model": index.card.to_json(),
        },
        "checkpoints": _checkpoints(config),
    }


def bytes_per_image(index: Index) -> dict[str, float]:
    """Bytes on disk of each representation, over the rows that its files hold."""
    size: dict[str, int] = {}
    rows: dict[str, int] = {}
    for part in index.manifest.parts:
        for kind, file in part.files.items():
            size[kind] = size.get(kind, 0) + file.bytes
            rows[kind] = rows.get(kind, 0) + part.rows
    return {kind: round(size[kind] / rows[kind], 1) for kind in size if rows[kind]}


def extraction(directory: Path) -> dict[str, float] | None:
    """Photos described, seconds, and photos per second, of all extractions into an index; None without a report."""
    images, seconds = 0, 0.0
    for file in sorted((directory / "runs").glob("*-extract-*.json")):
        report = _read(file)
        count = report.get("added", 0) + report.get("changed", 0)
        if count:
            images += count
            seconds += report.get("seconds", 0.0)
    if not images or not seconds:
        return None
    return {"images": images, "seconds": round(seconds, 2), "images_per_second": round(images / seconds, 2)}


def _checkpoints(config: Config) -> dict[str, str]:
    """SHA-256 of the files of weights that rerankers were read from."""
    found = {}
    for name in config.rerank.chain:
        file = reranker_options(config, name).get("checkpoint")
        if file is not None:
            found[name] = sha256_of(split_key(file)[0])
    return found


def _machine(config: Config) -> dict[str, Any]:
    device = choose_device(config)
    name = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()
    return {"device": device, "name": name, "cores": os.cpu_count(), "threads": torch.get_num_threads()}


def _read(file: Path) -> Mapping[str, Any]:
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # a report that was damaged later only means that its time is not known
        return {}
    return report if isinstance(report, dict) else {}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
