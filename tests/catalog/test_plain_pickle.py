"""Pickles of plain data are read like any; whatever would run something, or fill the memory, is refused by name."""

from __future__ import annotations

import pickle
import pickletools
import struct
import tracemalloc
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.catalog.plain_pickle import read_plain_pickle
from pipeline.errors import RelookError

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


class Runs:
    """What an attacker would write."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call[0], self.call[1:]


def read(folder: Path, data: bytes) -> Any:
    file = folder / "gnd.pkl"
    file.write_bytes(data)
    return read_plain_pickle(file)


def refusal(folder: Path, data: bytes) -> str:
    with pytest.raises(RelookError) as caught:
        read(folder, data)
    assert "\n" not in str(caught.value)
    assert "gnd.pkl" in str(caught.value)
    return str(caught.value)


@given(value=PLAIN, protocol=st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_plain_values_come_back(value: Any, protocol: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert read(tmp_path_factory.getbasetemp(), pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize("protocol", range(5))
@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.int64).reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(4, dtype=">i2"),
        np.array([], dtype=np.int64),
        np.array(3.5),
        np.array([True, False]),
    ],
    ids=lambda array: f"{array.dtype.str}{array.shape}",
)
def test_arrays_of_numbers_become_lists(protocol: int, array: Any, tmp_path: Path) -> None:
    assert read(tmp_path, pickle.dumps({"a": array}, protocol)) == {"a": array.tolist()}


@pytest.mark.parametrize("protocol", range(5))
def test_scalars_of_numpy_become_numbers(protocol: int, tmp_path: Path) -> None:
    content = (np.int64(7), np.float32(0.5), np.bool_(True))
    assert read(tmp_path, pickle.dumps(content, protocol)) == [7, 0.5, True]


def test_what_numpy_1_wrote_under_python_2(tmp_path: Path) -> None:
    """Text and the bytes of an array as short strings, names in `numpy.core`."""
    data = (
        b"(dp0\nS'bbx'\np1\ncnumpy.core.multiarray\n_reconstruct\np2\n(cnumpy\nndarray\np3\n(I0\ntp4\nS'b'\np5\ntp6\nRp7\n"
        b"(I1\n(I2\ntp8\ncnumpy\ndtype\np9\n(S'f8'\np10\nI0\nI1\ntp11\nRp12\n(I3\nS'<'\np13\nNNNI-1\nI-1\nI0\ntp14\nbI00\n"
        + b"U\x10"
        + struct.pack("<2d", 0.5, 3.0)
        + b"q\x0ftp16\nbs."
    )
    assert pickle.loads(data, encoding="latin1")["bbx"].tolist() == [0.5, 3.0]
    assert read(tmp_path, data) == {"bbx": [0.5, 3.0]}


@pytest.mark.parametrize("protocol", range(5))
@pytest.mark.parametrize(
    ("hostile", "named"),
    [
        (Runs(print, "owned"), "print"),
        (Runs(eval, "1"), "eval"),
        (Runs(getattr, "x", "upper"), "getattr"),
        (Runs(np.fromfile, "/etc/passwd"), "fromfile"),
        (OrderedDict(a=1), "OrderedDict"),
        (Path("/etc"), "Path"),
        (print, "print"),
    ],
)
def test_named_objects_are_refused_by_name(
    hostile: Any, named: str, protocol: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refusal(tmp_path, pickle.dumps({"gnd": [hostile]}, protocol))
    assert "refused" in message
    assert named in message
    assert capsys.readouterr().out == ""


def test_os_system_does_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    message = refusal(tmp_path, b"cposix\nsystem\n(S'touch " + bytes(mark) + b"'\ntR.")
    assert "posix.system" in message
    assert not mark.exists()


@pytest.mark.parametrize(
    ("data", "opcode"),
    [
        (b"\x80\x02(K\x01o.", "OBJ"),
        (b"(S'x'\niposix\nsystem\n.", "INST"),
        (b"Pabc\n.", "PERSID"),
        (b"\x80\x02K\x01Q.", "BINPERSID"),
        (b"\x80\x02\x82\x01.", "EXT1"),
        (b"\x80\x02)\x81.", "NEWOBJ"),
        (b"\x80\x05\x97.", "NEXT_BUFFER"),
        (b"\x80\x04\x8f.", "EMPTY_SET"),
    ],
)
def test_hostile_opcodes_are_refused_by_name(data: bytes, opcode: str, tmp_path: Path) -> None:
    assert opcode in {code.name for code, _, _ in pickletools.genops(data)}
    assert f"is {opcode}" in refusal(tmp_path, data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no pickle at all",
        pickle.dumps([1, 2, 3])[:-1],
        pickle.dumps(np.array([5], dtype=object)),
        pickle.dumps(np.array(["text"])),
        pickle.dumps(np.array([(1, 2)], dtype=[("a", int), ("b", int)])),
        b"cnumpy\nndarray\n(I1000000000\ntR.",
        b"cnumpy\ndtype\n.",
        b"]K\x05b.",
    ],
)
def test_what_is_no_plain_data_is_one_line(data: bytes, tmp_path: Path) -> None:
    assert "not a pickle" in refusal(tmp_path, data)


def test_memory_stays_small_whatever_a_small_file_asks_for(tmp_path: Path) -> None:
    nested: Any = []
    for _ in range(40):
        nested = [nested, nested]
    cyclic: Any = []
    cyclic.append(cyclic)
    empty = np.zeros((0,))
    shape = pickle.dumps(empty, 2).replace(b"K\x00\x85", b"J\xff\xff\xff\x7fK\x00\x86", 1)
    place_in_memo = b"\x80\x02Nr" + struct.pack("<I", 2**31 - 1) + b"."
    hostile = [pickle.dumps(nested), pickle.dumps(cyclic), place_in_memo]
    tracemalloc.start()
    try:
        for data in hostile:
            refusal(tmp_path, data)
        assert read(tmp_path, shape.replace(b"K\x00\x85", b"J\xff\xff\xff\x7fK\x00\x86")) == []
        assert tracemalloc.get_traced_memory()[1] < 50 << 20
    finally:
        tracemalloc.stop()


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "gnd.pkl"
    with file.open("wb") as stream:
        stream.truncate((64 << 20) + 1)
    with pytest.raises(RelookError, match="too many"):
        read_plain_pickle(file)
