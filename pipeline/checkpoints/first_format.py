"""Arrays of a file that torch saved in its first format (before torch 1.6), read without torch.

For weights that are installed as a package, where nothing else needs torch. Only tensors are unpickled. Such a file is
a row of pickles (a magic number, a version, facts of the machine, the state dict, the keys of its storages) and then
the storages, each as a count and its values.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from pipeline.errors import RelookError

Arrays = dict[str, npt.NDArray[Any]]

_MAGIC = 0x1950A86A20F9469CFC6C
_TYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


def read_arrays(path: Path) -> Arrays:
    """The tensors of a state dict by key.

    Raises:
        RelookError: the file cannot be read, or is none of this format with float32 and int64 tensors.
    """
    try:
        with path.open("rb") as stream:
            return _read(stream)
    except OSError as error:
        raise RelookError(f"{path}: cannot be read ({error.strerror})") from None
    except (pickle.UnpicklingError, ValueError, KeyError, TypeError, AttributeError, EOFError, IndexError) as error:
        raise RelookError(f"{path}: no state dict of torch's first format ({error})") from None


def _read(stream: BinaryIO) -> Arrays:
    if _Tensors(stream).load() != _MAGIC:
        raise ValueError("another magic number")
    for _ in ("version", "machine"):
        _Tensors(stream).load()
    tensors = _Tensors(stream)
    state = tensors.load()
    for key in _Tensors(stream).load():
        storage = tensors.storages[key]
        count = int.from_bytes(stream.read(8), "little")
        values = stream.read(count * storage.dtype.itemsize)
        storage.values = np.frombuffer(values, storage.dtype, count)
    return {str(key): tensor.array() for key, tensor in state.items()}


class _Storage:
    """The values of a tensor, which follow in the file."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype
        self.values: npt.NDArray[Any] = np.zeros(0, dtype)


class _Tensor:
    """What torch makes a tensor of: its storage, and which of its values it has in which order."""

    def __init__(self, storage: _Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> None:
        self._storage, self._offset, self._size, self._stride = storage, offset, size, stride

    def array(self) -> npt.NDArray[Any]:
        """A copy, contiguous. Raises ValueError where its storage is too short."""
        values = self._storage.values[self._offset :]
        last = sum((side - 1) * step for side, step in zip(self._size, self._stride, strict=True))
        if min(self._size, default=1) < 1 or min(self._stride, default=0) < 0 or last >= len(values):
            raise ValueError("a tensor is larger than its storage")
        steps = [step * values.itemsize for step in self._stride]
        return np.lib.stride_tricks.as_strided(values, self._size, steps, writeable=False).copy()


class _Tensors(pickle.Unpickler):
    """Unpickles tensors in mappings, and nothing else."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__(stream)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        """See `pickle.Unpickler`."""
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Tensor
        if module == "torch" and name in _TYPES:
            return _TYPES[name]
        raise pickle.UnpicklingError(f"it holds {module}.{name}")

    def persistent_load(self, pid: Any) -> _Storage:
        """See `pickle.Unpickler`."""
        kind, dtype, key, _, _, view = pid
        if kind != "storage" or view is not None:
            raise pickle.UnpicklingError("it holds something else than whole storages")
        return self.storages.setdefault(key, _Storage(dtype))
