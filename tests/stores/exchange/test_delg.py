"""DELG's files, in: what the official extraction writes, and whatever damaged bytes are in them."""

from __future__ import annotations

import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from exchange_files import SCALES, bring, refusal, some_locals, vectors_of
from hypothesis import given
from hypothesis import strategies as st
from stores_helpers import unit_vectors

from pipeline.errors import RelookError
from pipeline.stages.import_descriptors import Options
from pipeline.types import IMPORTED, FloatArray, LocalDescriptors


def varint(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def field(number: int, content: bytes) -> bytes:
    """A field with its length, on the wire."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def number(place: int, value: float) -> bytes:
    return varint(place << 3 | 5) + struct.pack("<f", value)


def datum(vector: FloatArray, packed: bool = True) -> bytes:
    """DatumProto as DELF writes it, or with every value in a field of its own."""
    values = field(1, vector.astype("<f4").tobytes()) if packed else b"".join(number(1, value) for value in vector)
    return field(1, field(1, varint(len(vector)))) + field(2, values)


def features(found: LocalDescriptors) -> bytes:
    """DelfFeatures, with y before x as DELF's code sets them; the wire has no order."""
    rows = zip(found.descriptors, found.xy, found.scale, found.weight, strict=True)
    return b"".join(
        field(1, number(3, y) + number(2, x) + number(4, s) + number(5, 0.0) + number(6, w) + field(1, datum(d)))
        for d, (x, y), s, w in rows
    )


def delg_folder(folder: Path, images: int = 7) -> dict[str, tuple[FloatArray, LocalDescriptors]]:
    made = {}
    for row, vector in enumerate(unit_vectors(images, 32)):
        name = f"oxford/all_souls_{row:06d}" if row % 2 else f"paris_{row:06d}.v2"
        made[name] = (vector, some_locals(row, row))
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.delg_global").write_bytes(datum(vector, packed=row != 3))
        (folder / f"{name}.delg_local").write_bytes(features(made[name][1]))
    return made


def test_delg(tmp_path: Path) -> None:
    made = delg_folder(tmp_path / "delg")
    # The first in order has no local descriptors; the width is told by another.
    result, index = bring(tmp_path, tmp_path / "delg", options=Options(scales=SCALES), model="DELG R50 (v2-clean)")
    assert (result.format, result.images, result.globals) == ("delg", 7, "given")
    assert (result.dimension, result.local_dimension) == (32, 16)
    assert len(index.manifest.parts) == 3
    assert set(vectors_of(index)) == set(made)
    for name, (vector, local) in made.items():
        assert np.allclose(vectors_of(index)[name], vector, atol=1e-6)
        (found,) = index.locals([name])
        assert np.allclose(found.descriptors, local.descriptors, atol=1e-3)
        assert np.array_equal(found.xy, local.xy)
        assert np.array_equal(found.scale, local.scale)
        assert np.array_equal(found.weight, local.weight)
    card = index.card
    assert card.name == IMPORTED
    assert card.weights == "not known here; made by DELG R50 (v2-clean)"
    assert card.settings["locals"]["scales"] == list(SCALES)
    assert index.verify() == []


def test_delg_without_globals_or_without_locals(tmp_path: Path) -> None:
    made = delg_folder(tmp_path / "delg")
    for file in (tmp_path / "delg").rglob("*.delg_local"):
        file.rename(tmp_path / file.name)
    result, index = bring(tmp_path, tmp_path / "delg")
    assert (result.local_dimension, index.card.settings) == (0, {"imported": {"format": "delg", "globals": "given"}})
    local = tmp_path / "local"
    local.mkdir()
    for name, (_, found) in made.items():
        if len(found):
            (local / f"{Path(name).name}.delg_local").write_bytes(features(found))
    result, index = bring(tmp_path / "other", local)
    assert (result.globals, result.dimension) == ("mean of local descriptors", 16)
    for name, (_, found) in made.items():
        if len(found):
            mean = found.descriptors.mean(axis=0)
            assert np.allclose(vectors_of(index)[Path(name).name], mean / np.linalg.norm(mean), atol=1e-3)


@pytest.mark.parametrize(
    ("ending", "content", "says"),
    [
        (".delg_global", b"\xff\xff\xff", "not a DatumProto of DELF"),
        (".delg_local", b"\x0a\xff", "not a DelfFeatures of DELF"),
        (".delg_global", field(1, field(1, varint(3) + varint(4))) + field(2, field(1, bytes(48))), "of shape [3, 4]"),
        (".delg_global", field(1, field(1, varint(9))) + field(2, field(1, bytes(48))), "12 values of shape [9]"),
        (".delg_global", b"", "expected one vector, found 0 values"),
        (".delg_global", datum(np.zeros(32, np.float32)), "length 0"),
        (".delg_global", datum(np.full(32, np.nan, np.float32)), "value 1 of its vector is nan"),
        (".delg_global", datum(np.full(32, 2, np.float32)), "not 1; --normalise"),
        (".delg_global", datum(unit_vectors(1, 31)[0]), "31 values, the first has 32"),
        (".delg_local", features(some_locals(2, 0, 8)), "local descriptors of 8 values, the first has 16"),
        (".delg_local", features(some_locals(2, 0)) + features(some_locals(2, 0, 8)), "have 8 and 16 values"),
        (
            ".delg_local",
            field(1, number(6, -1.0) + field(1, datum(unit_vectors(1, 16)[0]))),
            "the weight of local descriptor 1 is -1",
        ),
        (".delg_local", field(1, number(6, 1.0) + field(1, datum(np.zeros(16, np.float32)))), "has length 0"),
        (
            ".delg_local",
            field(1, number(2, float("nan")) + field(1, datum(unit_vectors(1, 16)[0]))),
            "the place of local descriptor 1 is not finite",
        ),
    ],
)
def test_bad_files_of_delg(ending: str, content: bytes, says: str, tmp_path: Path) -> None:
    delg_folder(tmp_path / "delg")
    file = tmp_path / "delg" / f"paris_000004.v2{ending}"
    file.write_bytes(content)
    message = refusal(tmp_path, tmp_path / "delg")
    assert says in message
    assert str(file.with_suffix("")) in message


@given(content=st.binary(max_size=60))
def test_no_bytes_break_the_reader(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("delg")
    (folder / "a.delg_local").write_bytes(content)
    (folder / "a.delg_global").write_bytes(datum(unit_vectors(1, 4)[0]))
    with suppress(RelookError):  # any other error fails the test
        assert bring(folder, folder)[0].images == 1
