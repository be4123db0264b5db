"""The weights inside of what torch unpickled: wrappers, averaged weights and prefixes of common training code.

Used by `weight_files.py`, which reads the file. Knows checkpoints of plain torch, DistributedDataParallel,
torch.compile, stochastic weight averaging, Lightning, timm and other trainers that keep an exponential moving average
(EMA) beside the weights.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from pipeline.errors import RelookError

log = logging.getLogger(__name__)

# Keys that hold the state dict, in order of preference: CVNet, RRT and AMES, common trainers, DISK.
_WRAPPERS = ("model_state", "state", "state_dict", "model", "model_state_dict", "net", "network", "module", "extractor")
_EMA_WRAPPERS = ("state_dict_ema", "model_ema", "ema_state_dict", "ema_model", "ema")

# The key after "#" that stands for whichever of `_EMA_WRAPPERS` the file has.
EMA = "ema"

# What a LightningModule calls its network.
_LIGHTNING_PREFIXES = ("model.", "net.", "network.", "backbone.")
_LIGHTNING_MARK = "pytorch-lightning_version"

# AveragedModel (SWA) counts its updates beside the weights.
_AVERAGED_COUNT = "n_averaged"

State = dict[str, torch.Tensor]


class Inert:
    """Stands for an object of a checkpoint's settings; keeps nothing and runs nothing of the class that it replaces."""

    def __init__(self, *arguments: Any) -> None:
        """Drop the arguments."""

    def __setstate__(self, state: Any) -> None:
        """Drop the state."""


# Classes that trainers save beside weights (options, settings, metrics). All are read as `Inert`.
_SETTINGS_CLASSES = (
    "argparse.Namespace",
    "builtins.dict",
    "builtins.float",
    "builtins.int",
    "builtins.list",
    "builtins.str",
    "builtins.tuple",
    "numpy._core.multiarray.scalar",
    "numpy.core.multiarray.scalar",
    "numpy.dtype",
    "numpy.dtypes.Float16DType",
    "numpy.dtypes.Float32DType",
    "numpy.dtypes.Float64DType",
    "numpy.dtypes.Int32DType",
    "numpy.dtypes.Int64DType",
    "omegaconf.base.ContainerMetadata",
    "omegaconf.base.Metadata",
    "omegaconf.dictconfig.DictConfig",
    "omegaconf.listconfig.ListConfig",
    "omegaconf.nodes.AnyNode",
    "omegaconf.nodes.BooleanNode",
    "omegaconf.nodes.FloatNode",
    "omegaconf.nodes.IntegerNode",
    "omegaconf.nodes.StringNode",
    "pathlib.Path",
    "pathlib.PosixPath",
    "pathlib.PurePosixPath",
    "pathlib.WindowsPath",
    "pathlib._local.PosixPath",
    "pathlib._local.WindowsPath",
    "typing.Any",
)
SAFE_CLASSES: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [(Inert, name) for name in _SETTINGS_CLASSES]


class _Found(NamedTuple):
    """A state dict inside of an unpickled object, and the key that it lies under ("" at the top)."""

    name: str
    state: Mapping[Any, Any]


def find_state_dict(path: Path, loaded: object, key: str | None) -> State:
    """The state dict of an unpickled checkpoint, under plain names.

    Args:
        path: of the file, for messages.
        loaded: what torch unpickled.
        key: which of several state dicts: its key, or `EMA`; None: the weights that are no average, where the file
            has them. Where the file holds averaged weights, a line of the log says which were taken.

    Raises:
        RelookError: there is no state dict, or none under `key`.
    """
    found = _all_state_dicts(loaded)
    if not found:
        raise RelookError(
            f"{path}: holds no state dict{_described(loaded)}; save the weights alone: "
            "torch.save(model.state_dict(), FILE)"
        )
    chosen = found[0] if key is None else _under(path, found, key)
    if not chosen.state:
        raise RelookError(f"{path}: holds no weights")
    others = [other.name for other in found if other.name != chosen.name]
    if key is None and chosen.name in _EMA_WRAPPERS:
        log.info("%s: the weights are those of %s, the only ones in the file", path, chosen.name)
    elif key is None and any(name in _EMA_WRAPPERS for name in others):
        log.warning(
            "%s: the weights are those of %s; the file also holds %s, which %s#%s chooses",
            *(path, chosen.name or "its top level", ", ".join(others), path, others[0]),
        )
    lightning = isinstance(loaded, Mapping) and _LIGHTNING_MARK in loaded
    return plain_names({str(name): value for name, value in chosen.state.items()}, path, partly=lightning)


def plain_names(state: State, path: Path, *, partly: bool = False) -> State:
    """The same tensors without what wrappers of a model add to the names.

    Args:
        state: tensors by name.
        path: of the file, for messages.
        partly: whether tensors of other modules (losses, metrics) may lie beside the network's, as in Lightning's
            files; they are left out.
    """
    # torch.compile names a compiled part so, wherever it lies.
    state = {key.replace("_orig_mod.", ""): value for key, value in state.items()}
    if _AVERAGED_COUNT in state and all(key.startswith("module.") for key in state if key != _AVERAGED_COUNT):
        state = {key: value for key, value in state.items() if key != _AVERAGED_COUNT}
    while any(key.startswith("module.") for key in state):
        state = {key.removeprefix("module."): value for key, value in state.items()}
    for prefix in _LIGHTNING_PREFIXES:
        inside = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        if inside and (partly or len(inside) == len(state)):
            left_out = [key for key in state if not key.startswith(prefix)]
            if left_out:
                log.info(
                    "%s: %d tensors outside of %s* are not used (%s, ...)", path, len(left_out), prefix, left_out[0]
                )
            return plain_names(inside, path)
    return state


def _under(path: Path, found: list[_Found], key: str) -> _Found:
    wanted = _EMA_WRAPPERS if key == EMA else (key,)
    for one in found:
        if one.name in wanted:
            return one
    names = ", ".join(one.name or "(the top level)" for one in found)
    raise RelookError(f"{path}#{key}: the file holds no state dict under {key}; it holds {names}")


def _all_state_dicts(loaded: object) -> list[_Found]:
    """Every state dict, the preferred one first."""
    if not isinstance(loaded, Mapping):
        return []
    if all(isinstance(value, torch.Tensor) for value in loaded.values()):
        return [_Found("", loaded)]
    found = []
    known = (*_WRAPPERS, *_EMA_WRAPPERS)
    others = [name for name in loaded if name not in known and isinstance(name, str) and name != "optimizer"]
    for name in (*known, *others):
        inner = loaded.get(name)
        if not isinstance(inner, Mapping):
            continue
        if name in known:
            found += [_Found(name, one.state) for one in _all_state_dicts(inner)[:1]]
        elif inner and all(isinstance(value, torch.Tensor) for value in inner.values()):
            found.append(_Found(name, inner))
    return found if any(one.name in known for one in found) else []


def _described(loaded: object) -> str:
    if not isinstance(loaded, Mapping):
        return f" but a {type(loaded).__name__}"
    names = [str(name) for name in loaded]
    return f" (keys: {', '.join(names[:5])}{', ...' if len(names) > 5 else ''})" if names else ""
