"""Files of weights: relook's own (safetensors with a JSON header) and official ones (a pickled state dict).

Read by describers and rerankers, written by training and `convert`. Only tensors and plain settings are unpickled. A
key that is missing, left over or of another shape is an error that lists it. A path may end in `#KEY`: the state dict
under KEY of a file with several, such as `weights.pth#ema`.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import re
import threading
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from pipeline.checkpoints.names import split_key
from pipeline.checkpoints.state_dicts import SAFE_CLASSES, find_state_dict, plain_names
from pipeline.errors import RelookError
from pipeline.files import atomic_path, write_bytes, write_errors

# torch keeps its list of safe classes for the whole process.
_SAFE_GLOBALS_LOCK = threading.Lock()

# The key of relook's header among a safetensors file's metadata.
_HEADER = "relook"


class Writable(Protocol):
    """A binary stream that tensors can be written to."""

    def write(self, data: bytes, /) -> int:
        """Write bytes."""

    def flush(self) -> None:
        """Write what is buffered."""


@dataclass(frozen=True)
class Checkpoint:
    """The content of a file of weights.

    Attributes:
        path: of the file.
        state: tensors by key.
        header: relook's own metadata; None in a file that relook did not write.
    """

    path: Path
    state: dict[str, torch.Tensor]
    header: Mapping[str, Any] | None = None

    def part(self, *prefixes: str) -> Checkpoint:
        """Only the tensors whose key begins with one of `prefixes`, under their full keys."""
        kept = {key: value for key, value in self.state.items() if key.startswith(prefixes)}
        return Checkpoint(self.path, kept, self.header)

    def renamed(self, prefix: str, other: str) -> Checkpoint:
        """The same tensors, with `other` where a key began with `prefix`."""
        state = {
            other + key.removeprefix(prefix) if key.startswith(prefix) else key: value
            for key, value in self.state.items()
        }
        return Checkpoint(self.path, state, self.header)

    def load_into(self, module: nn.Module) -> None:
        """Load every tensor. Raises RelookError listing the keys that are missing, unexpected or of another shape."""
        expected = module.state_dict()
        shared = expected.keys() & self.state.keys()
        self.refuse(
            missing=expected.keys() - shared,
            unexpected=self.state.keys() - shared,
            of_another_shape=[key for key in shared if expected[key].shape != self.state[key].shape],
        )
        module.load_state_dict(self.state, strict=True)

    def refuse(self, **problems: Iterable[str]) -> None:
        """Raise RelookError when any of the named lists of keys is not empty."""
        found = []
        for what, keys in problems.items():
            ordered = sorted(keys)
            if ordered:
                shown = ", ".join(ordered[:5]) + (", ..." if len(ordered) > 5 else "")
                found.append(f"{len(ordered)} {what.replace('_', ' ')} ({shown})")
        if found:
            raise RelookError(f"{self.path}: a checkpoint of another architecture; keys: {'; '.join(found)}")


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a file of weights, recognised by its first bytes.

    Args:
        path: of the file, optionally with `#KEY` (see the module).

    Raises:
        RelookError: there is no such file, it is damaged, or it holds no weights, or more than weights and settings.
    """
    file, key = split_key(path)
    if not file.is_file():
        raise RelookError(f"{file}: no such checkpoint")
    if not _is_safetensors(file):
        return _read_torch(file, key)
    if key is not None:
        raise RelookError(f"{path}: a safetensors file holds one state dict; leave #{key} out")
    return _read_safetensors(file)


def read_header(path: Path) -> Mapping[str, Any] | None:
    """The header of relook's own format without the tensors; None in a file that relook did not write.

    Raises:
        RelookError: there is no such file, or it is damaged.
    """
    path, _ = split_key(path)
    if not path.is_file():
        raise RelookError(f"{path}: no such checkpoint")
    if not _is_safetensors(path):
        return None
    return _read_safetensors(path, tensors=False).header


def write_checkpoint(path: Path, state: Mapping[str, torch.Tensor], header: Mapping[str, Any]) -> None:
    """Write relook's own format; the file appears whole or not at all. Raises RelookError when it cannot."""
    tensors = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    with write_errors(path):
        write_bytes(path, save(tensors, metadata={_HEADER: json.dumps(header)}))


def write_official(path: Path, state: Mapping[str, torch.Tensor], wrapper: str) -> None:
    """Write a state dict as the official code reads it: pickled by torch, below the key `wrapper`."""
    with write_errors(path), atomic_path(path) as temporary, temporary.open("wb") as stream:
        pickle_tensors({wrapper: dict(state)}, stream)


def write_bare(path: Path, state: Mapping[str, torch.Tensor]) -> None:
    """Write a state dict as official code on transformers reads it: safetensors without relook's header."""
    tensors = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    with write_errors(path):
        write_bytes(path, save(tensors, metadata={"format": "pt"}))


def pickle_tensors(value: Any, stream: Writable) -> None:
    """`torch.save` to a stream. Raises OSError when the disk is full, which torch itself hides."""
    try:
        torch.save(value, stream)  # type: ignore[arg-type]
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def hash_weights(state: Mapping[str, torch.Tensor]) -> str:
    """ "sha256:..." over the names and bytes of tensors; equal for the same weights from any file."""
    digest = hashlib.sha256()
    for key, value in sorted(state.items()):
        digest.update(key.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return f"sha256:{digest.hexdigest()}"


def _is_safetensors(path: Path) -> bool:
    """By its first bytes: eight of header length, then JSON."""
    with path.open("rb") as stream:
        return stream.read(9)[8:9] == b"{"


def _read_safetensors(path: Path, tensors: bool = True) -> Checkpoint:
    try:
        with safe_open(str(path), framework="pt") as file:
            header = json.loads((file.metadata() or {}).get(_HEADER, "null"))
            keys = file.keys() if tensors else ()
            state = {key: file.get_tensor(key) for key in keys}
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise RelookError(f"{path}: a damaged checkpoint ({error})") from None
    if header is not None and not isinstance(header, dict):
        raise RelookError(f"{path}: a damaged checkpoint (its header is not a JSON object)")
    return Checkpoint(path, state if header is not None else plain_names(state, path), header)


def _read_torch(path: Path, key: str | None) -> Checkpoint:
    _refuse_compressed(path)
    try:
        with _SAFE_GLOBALS_LOCK, torch.serialization.safe_globals(SAFE_CLASSES):
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # its text advises to unpickle whatever the file holds
        raise RelookError(f"{path}: cannot be read as a checkpoint ({_refused(error)})") from None
    except Exception as error:  # torch raises many types for a file that is no checkpoint
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise RelookError(f"{path}: cannot be read as a checkpoint ({reason})") from None
    state = find_state_dict(path, loaded, key)
    size = path.stat().st_size
    for name, value in state.items():
        if value.device.type != "cpu" or value.numel() * value.element_size() > size:
            raise RelookError(f"{path}: refused, {name} of shape {list(value.shape)} is more than the file holds")
    return Checkpoint(path, state)


def _refused(error: pickle.UnpicklingError) -> str:
    """Why a file was not unpickled, and the remedy."""
    found = re.search(r"(?:GLOBAL|global) ([A-Za-z_][\w.]*\.\w+)", str(error))
    if found is None:
        return "no weights, or more than weights"
    return f"more than weights: {found[1]}; save the weights alone: torch.save(model.state_dict(), FILE)"


def _refuse_compressed(path: Path) -> None:
    """torch stores its archives as they are; a compressed one can become a thousand times as large."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            packed = [entry.filename for entry in archive.infolist() if entry.compress_type != zipfile.ZIP_STORED]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise RelookError(f"{path}: cannot be read as a checkpoint ({error})") from None
    if packed:
        raise RelookError(f"{path}: refused, {packed[0]} in it is compressed, which checkpoints are not")
