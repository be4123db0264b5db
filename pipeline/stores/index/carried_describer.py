"""The describer that an index carries in `model/`, so that its queries are described without the network's library.

An exported graph, and a JSON file that says what belongs to it. Both follow from the model and can be made again, so no
manifest names them: the JSON file, which is written last, has the graph's length and checksum. Beside the parts;
docs/index-format.md describes both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.errors import RelookError
from pipeline.files import sha256_of, write_bytes, write_errors
from pipeline.stores.index.manifest import PartFile
from pipeline.stores.index.part_files import write_file

_FORMAT = 1


@dataclass(frozen=True)
class StoredDescriber:
    """A carried describer: the file of its graph, and what the room `describe` has to know of that."""

    graph: Path
    spec: Mapping[str, Any]


def describer_files(fingerprint: str) -> tuple[str, str]:
    """The paths below the index of a model's graph, and of the JSON file beside it."""
    return f"model/describer-{fingerprint}.onnx", f"model/describer-{fingerprint}.json"


def write_describer(directory: Path, fingerprint: str, graph: bytes, spec: Mapping[str, Any]) -> None:
    """Write the describer of a model. Raises RelookError when the disk is full or closed to us."""
    name, description = describer_files(fingerprint)
    file = write_file(directory, name, lambda path: path.write_bytes(graph))
    values = {"format": _FORMAT, "fingerprint": fingerprint, "graph": file.model_dump(), "spec": dict(spec)}
    with write_errors(directory / description):
        write_bytes(directory / description, json.dumps(values, indent=1).encode())


def read_describer(directory: Path, fingerprint: str) -> StoredDescriber | None:
    """The describer of a model, checked; None where the index carries none, or one in a format of a newer relook.

    Raises:
        RelookError: one of its files is damaged.
    """
    name, description = describer_files(fingerprint)
    path = directory / description
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise RelookError(f"{path}: cannot be read ({error})") from None
    try:
        if values["format"] != _FORMAT:
            return None
        file, spec = PartFile.model_validate(values["graph"]), dict(values["spec"])
        if values["fingerprint"] != fingerprint or file.path != name:
            raise ValueError("it is of another model")
    except (ValidationError, ValueError, KeyError, TypeError) as error:
        raise RelookError(f"{path}: damaged ({' '.join(str(error).split())})") from None
    graph = directory / name
    try:
        # A link could lead to any file of this disk.
        whole = not graph.is_symlink() and graph.stat().st_size == file.bytes and sha256_of(graph) == file.sha256
    except OSError as error:
        raise RelookError(f"{graph}: cannot be read ({error.strerror})") from None
    if not whole:
        raise RelookError(f"{graph}: damaged (its length or its checksum differs)")
    return StoredDescriber(graph, spec)
