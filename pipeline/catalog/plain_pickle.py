"""Pickles of plain data, read without running anything that they hold.

Used for ground truth that is published as a pickle (Revisited Oxford and Paris). Every opcode is looked at before any
is run: containers, numbers and text are allowed, and of named objects only those that numpy arrays of numbers are made
of, in whose place this file's own functions stand.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import RelookError

_MAX_BYTES = 64 << 20
_NUMBERS = "iufb"

_PLAIN = re.compile(
    "PROTO|FRAME|STOP|MARK|POP|POP_MARK|DUP|NONE|NEWTRUE|NEWFALSE"
    "|EMPTY_DICT|EMPTY_LIST|EMPTY_TUPLE|DICT|LIST|TUPLE|TUPLE[123]|APPENDS?|SETITEMS?"
    "|INT|BININT[12]?|LONG[14]?|FLOAT|BINFLOAT"
    "|STRING|BINSTRING|SHORT_BINSTRING|UNICODE|BINUNICODE8?|SHORT_BINUNICODE|BINBYTES8?|SHORT_BINBYTES"
    "|PUT|BINPUT|LONG_BINPUT|MEMOIZE|GET|BINGET|LONG_BINGET"
    "|GLOBAL|STACK_GLOBAL|REDUCE|BUILD"
)
_MEMO = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})


def read_plain_pickle(file: Path) -> Any:
    """What a pickle of containers, numbers, text and numeric numpy arrays holds; arrays and numpy scalars become lists
    and numbers.

    Raises:
        RelookError: the file cannot be read, is larger than 64 MiB, is not a pickle, or names anything else.
    """
    try:
        if file.stat().st_size > _MAX_BYTES:
            raise RelookError(f"{file}: {file.stat().st_size} bytes are too many for a ground truth")
        data = file.read_bytes()
    except OSError as error:
        raise RelookError(f"{file}: cannot be read ({error.strerror})") from None
    _refuse_other_opcodes(file, data)
    try:
        # A pickle without tricks has no more values than bytes; one that names a list twice, again and again, has.
        return _Plain(len(data)).of(_Unpickler(file, io.BytesIO(data), encoding="latin1").load())
    except RelookError:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        raise RelookError(f"{file}: not a pickle of plain data ({type(error).__name__}: {error})") from None


def _refuse_other_opcodes(file: Path, data: bytes) -> None:
    try:
        for opcode, argument, place in pickletools.genops(data):
            if not _PLAIN.fullmatch(opcode.name):
                raise RelookError(f"{file}: refused, byte {place} is {opcode.name}, which is not plain data")
            if opcode.name in _MEMO and int(argument or 0) > len(data):
                raise RelookError(f"{file}: refused, byte {place} reads place {argument} of the memo, which is empty")
            if opcode.name == "GLOBAL":
                _named(file, *str(argument).split(" ", 1))
    except RelookError:
        raise
    except Exception as error:  # pickletools raises what its parts do
        raise RelookError(f"{file}: not a pickle ({error})") from None


class _Unpickler(pickle.Unpickler):
    """Finds nothing but the stand-ins below."""

    def __init__(self, file: Path, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._file = file

    def find_class(self, module: str, name: str) -> Any:
        return _named(self._file, module, name)


class _Type:
    """Placeholder for a numpy dtype of numbers."""

    def __init__(self, code: str, *_: Any) -> None:
        self.dtype = np.dtype(str(code))
        if self.dtype.kind not in _NUMBERS:
            raise ValueError(f"arrays of {code} are not numbers")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] == ">":
            self.dtype = self.dtype.newbyteorder(">")


class _Array:
    """Placeholder for a numpy array; its content comes with the state."""

    values: Any = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _version, shape, kind, fortran, content = state
        if not isinstance(kind, _Type) or not isinstance(content, (bytes, str)):
            raise ValueError("an array that holds no numbers")
        raw = content.encode("latin1") if isinstance(content, str) else content
        array = np.frombuffer(raw, dtype=kind.dtype)
        self.values = array.reshape(shape, order="F" if fortran else "C").tolist() if array.size else []


def _new_array(*_: Any) -> _Array:
    return _Array()


def _scalar(kind: Any, content: Any) -> Any:
    if not isinstance(kind, _Type):
        raise ValueError("a scalar that is not a number")
    raw = content.encode("latin1") if isinstance(content, str) else content
    (value,) = np.frombuffer(raw, dtype=kind.dtype).tolist()
    return value


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """How protocol 2 writes bytes."""
    if encoding != "latin1":
        raise ValueError(f"bytes in {encoding}")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """How protocols before 3 write bytes of length 0."""
    return b""


def _array_class() -> None:
    raise ValueError("an array made in another way than numpy's")


_STAND_INS: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "dtype"): _Type,
    ("numpy", "ndarray"): _array_class,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _no_bytes,
    ("builtins", "bytes"): _no_bytes,
    **{
        (f"numpy.{core}.multiarray", name): stand_in
        for core in ("core", "_core")
        for name, stand_in in (("_reconstruct", _new_array), ("scalar", _scalar))
    },
}


def _named(file: Path, module: str, name: str) -> Callable[..., Any]:
    if (module, name) not in _STAND_INS:
        raise RelookError(f"{file}: refused, it names {module}.{name}, which is not plain data")
    return _STAND_INS[module, name]


class _Plain:
    """Arrays as lists, however deep; what is left of the stand-ins is refused, and so are more than `limit` values."""

    def __init__(self, limit: int) -> None:
        self._left = limit

    def of(self, value: Any) -> Any:
        self._left -= 1
        if self._left < 0:
            raise ValueError("more values than bytes")
        if isinstance(value, _Array):
            return self.of(value.values)
        if isinstance(value, dict):
            return {self.of(key): self.of(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.of(item) for item in value]
        if value is None or isinstance(value, (str, bytes, int, float)):
            return value
        raise ValueError(f"{type(value).__name__} is not plain data")
