"""Descriptors made elsewhere: DELG's files, AMES's HDF5 and CSVs into an index, AMES's out of one; what is refused."""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from cli_helpers import document, refused
from hypothesis import given
from hypothesis import strategies as st
from stores_helpers import make_index, unit_vectors

from pipeline.config import load_config
from pipeline.errors import RelookError, UsageError
from pipeline.stages.export_descriptors import export_locals
from pipeline.stages.import_descriptors import ImportResult, Options, import_descriptors
from pipeline.stores import Index
from pipeline.types import IMPORTED, FloatArray, LocalDescriptors
from pipeline.workflow.model_loading import open_describer

SCALES = (0.7071, 1.0, 1.4142)


def bring(tmp_path: Path, source: Path, **arguments: Any) -> tuple[ImportResult, Index]:
    config = load_config(None, [f"index={tmp_path / 'index'}", "extract.part_size=3"])
    result = import_descriptors(config, source, **arguments)
    return result, Index(tmp_path / "index")


def refusal(tmp_path: Path, source: Path, **arguments: Any) -> str:
    with pytest.raises(RelookError) as caught:
        bring(tmp_path, source, **arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def vectors_of(index: Index) -> dict[str, FloatArray]:
    return {name: vector for part in index.globals_parts() for name, vector in zip(part.ids, part.vectors, strict=True)}


# --- DELG -------------------------------------------------------------------------------------------------------------


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


def some_locals(count: int, seed: int, width: int = 16) -> LocalDescriptors:
    rng = np.random.default_rng(seed)
    return LocalDescriptors(
        unit_vectors(count, width, seed).astype(np.float16).astype(np.float32),
        rng.uniform(0, 500, (count, 2)).astype(np.float32),
        rng.choice(1 / np.array(SCALES), count).astype(np.float32),
        np.sort(rng.uniform(1, 9, count).astype(np.float32))[::-1].copy(),
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


# --- AMES -------------------------------------------------------------------------------------------------------------


def ames_file(file: Path, images: int = 5, count: int = 6, width: int = 16) -> list[LocalDescriptors]:
    """As the authors' code writes it: descriptors as long as the network left them, padding where there are fewer."""
    made = [some_locals(min(row + 2, count), row, width) for row in range(images)]
    values = np.zeros((images, count, 5 + width), np.float32)
    for row, image in enumerate(made):
        values[row, len(image) :, 3] = 1
        values[row, : len(image), :2] = image.xy
        values[row, : len(image), 2] = np.abs(image.scale[:, None] - 1 / np.array(SCALES)).argmin(axis=1)
        values[row, : len(image), 4] = image.weight
        values[row, : len(image), 5:] = image.descriptors * 37.5
    file.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(file, "w") as stream:
        stream["features"] = values
    return made


def test_ames_with_what_it_lacks(tmp_path: Path) -> None:
    made = ames_file(tmp_path / "dinov2_gallery_local.hdf5")
    (tmp_path / "test_gallery.txt").write_text("".join(f"jpg/{row}.jpg,640,480\n" for row in range(5)))
    vectors = unit_vectors(5, 24)
    vectors.tofile(tmp_path / "dinov2_gallery_global.pt")
    np.save(tmp_path / "globals.npy", vectors)
    for number_of, file in enumerate(("dinov2_gallery_global.pt", "globals.npy")):
        options = Options(tmp_path / "test_gallery.txt", tmp_path / file, SCALES)
        result, index = bring(tmp_path / str(number_of), tmp_path / "dinov2_gallery_local.hdf5", options=options)
        assert (result.images, result.dimension, result.local_dimension, result.globals) == (5, 24, 16, "given")
        names = [f"jpg/{row}.jpg" for row in range(5)]
        assert list(index.records) == names
        assert np.allclose(np.stack([vectors_of(index)[name] for name in names]), vectors, atol=1e-6)
        for image, found in zip(made, index.locals(names), strict=True):
            assert np.allclose(found.descriptors, image.descriptors, atol=1e-3)
            assert np.array_equal(found.xy, image.xy)
            assert np.allclose(found.scale, image.scale)
            assert np.array_equal(found.weight, image.weight)


def test_ames_alone(tmp_path: Path) -> None:
    ames_file(tmp_path / "x.h5", images=12)
    assert "but there are 1 scales (1); name them with --scales" in refusal(tmp_path, tmp_path / "x.h5")
    ames_file(tmp_path / "cvnet.h5", images=12, width=1024)
    result, index = bring(tmp_path / "wide", tmp_path / "cvnet.h5")
    assert list(index.records)[:2] == ["00", "01"]
    assert (result.globals, result.dimension) == ("mean of local descriptors", 1024)
    assert index.card.settings["locals"]["scales"] == list(SCALES)


def test_out_and_in_again(tmp_path: Path) -> None:
    make_index(tmp_path / "first", ids=[f"photo {row}" for row in range(7)])
    config = load_config(None, [f"index={tmp_path / 'first'}"])
    first = Index(tmp_path / "first")
    first.manifest.model["settings"]["locals"] = {"scales": [1.0, 1 / 0.7071]}  # what the helper's scales come from
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.stages.export_descriptors.Index", lambda _directory: first)
        result = export_locals(config, tmp_path / "out.hdf5")
    assert (result.images, result.count, result.dimension) == (7, 2, 4)
    with h5py.File(tmp_path / "out.hdf5") as file:
        assert file["features"].shape == (7, 2, 9)
        assert file["features"][0, :, 3].tolist() == [1, 1]  # an image without any is all padding
        assert file["features"].dtype == np.float32
    vectors = np.stack(list(vectors_of(first).values()))
    np.save(tmp_path / "globals.npy", vectors)
    _, second = bring(tmp_path, tmp_path / "out.hdf5", options=Options(globals=tmp_path / "globals.npy"))
    assert list(second.records) == list(first.records)
    for one, other in zip(first.locals(list(first.records)), second.locals(list(first.records)), strict=True):
        assert np.allclose(one.descriptors, other.descriptors, atol=1e-3)
        assert np.allclose(one.scale, other.scale)
        assert np.array_equal(one.xy, other.xy)
        assert np.array_equal(one.weight, other.weight)


def test_what_amess_format_cannot_hold(tmp_path: Path) -> None:
    index = make_index(tmp_path / "index")
    config = load_config(None, [f"index={tmp_path / 'index'}"])
    for local, says in (({"projection": {"kind": "ames"}}, "projected"), ({"geometry": False}, "has no positions")):
        index.manifest.model["settings"]["locals"] = local
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("pipeline.stages.export_descriptors.Index", lambda _directory: index)
            with pytest.raises(RelookError, match=says):
                export_locals(config, tmp_path / "out.hdf5")
    assert not (tmp_path / "out.hdf5").exists()


def external(file: h5py.File, secret: Path) -> None:
    file.create_dataset("features", (1, 2, 9), "f4", external=[(str(secret), 0, 72)])


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (lambda file, _: file.create_group("features"), "refused: features is no dataset"),
        (lambda file, _: file.create_dataset("other", data=[1]), "it has: other"),
        (
            lambda file, _: file.create_dataset("features", data=np.zeros((3, 9), np.float32)),
            "features of shape (3, 9)",
        ),
        (lambda file, _: file.create_dataset("features", data=np.zeros((3, 2, 5), np.float32)), "rows of 5 values"),
        (lambda file, _: file.create_dataset("features", data=np.zeros((3, 2, 9), int)), "features of shape"),
        (
            lambda file, _: file.create_dataset("features", data=np.full((3, 2, 9), 0.5, np.float32)),
            "which rows are padding",
        ),
        (lambda file, _: file.create_dataset("features", data=np.full((3, 2, 9), np.nan, np.float32)), "image 1 ('0')"),
        (external, "the values of features lie in another file"),
    ],
)
def test_bad_files_of_ames(write: Callable[[h5py.File, Path], Any], says: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(range(72)))
    with h5py.File(tmp_path / "x.hdf5", "w") as file:
        write(file, secret)
    message = refusal(tmp_path, tmp_path / "x.hdf5")
    assert says in message
    assert "x.hdf5" in message


def test_what_does_not_fit_amess_rows(tmp_path: Path) -> None:
    ames_file(tmp_path / "x.hdf5")
    (tmp_path / "ids.txt").write_text("a\nb\n")
    unit_vectors(7, 3).tofile(tmp_path / "raw.pt")
    (tmp_path / "saved.pt").write_bytes(b"PK\x03\x04")
    np.save(tmp_path / "objects.npy", np.array([object()]), allow_pickle=True)
    for options, says in (
        (Options(ids=tmp_path / "ids.txt"), "2 ids for 5 images"),
        (Options(ids=tmp_path / "gone.txt"), "cannot be read"),
        (Options(globals=tmp_path / "raw.pt"), "not the global descriptors of 5 images"),
        (Options(globals=tmp_path / "saved.pt"), "saved by torch.save"),
        (Options(globals=tmp_path / "objects.npy"), "not the global descriptors"),
    ):
        assert says in refusal(tmp_path, tmp_path / "x.hdf5", options=options)
    (tmp_path / "ids.txt").write_text("a\nb\nc\nb\ne\n")
    options = Options(ids=tmp_path / "ids.txt", scales=SCALES)
    assert "duplicate id 'b'" in refusal(tmp_path, tmp_path / "x.hdf5", options=options)
    (tmp_path / "text.hdf5").write_bytes(b"text")
    assert "not an HDF5 file" in refusal(tmp_path, tmp_path / "text.hdf5")


# --- CSV --------------------------------------------------------------------------------------------------------------


def listed(vector: FloatArray) -> str:
    return str(vector.tolist())


@pytest.mark.parametrize(
    "write",
    [
        listed,
        lambda vector: listed(vector).replace(" ", ""),
        lambda vector: np.array2string(vector, threshold=9999),  # spaces and line breaks between the numbers
        lambda vector: " [ " + " ,\n ".join(map(str, vector)) + " ] ",
    ],
    ids=["list", "tight", "numpy", "broken"],
)
def test_lists_in_cells(write: Callable[[FloatArray], str], tmp_path: Path) -> None:
    vectors = unit_vectors(5, 40)
    lines = ["vecid, vectors, labels"] + [f'img_{row},"{write(v)}",class {row % 2}' for row, v in enumerate(vectors)]
    (tmp_path / "x.csv").write_text("\n".join(lines) + "\n")
    result, index = bring(tmp_path, tmp_path / "x.csv")
    assert (result.format, result.images, result.dimension, result.local_dimension) == ("csv", 5, 40, 0)
    assert {name: record.label for name, record in index.records.items()} == {
        f"img_{r}": f"class {r % 2}" for r in range(5)
    }
    assert np.allclose(np.stack([vectors_of(index)[f"img_{row}"] for row in range(5)]), vectors, atol=1e-6)


def test_a_column_a_value(tmp_path: Path) -> None:
    vectors = unit_vectors(5, 12)
    header = ",".join(["label", *(f"dim_{place}" for place in range(12)), "id"])
    lines = [header] + [",".join(["cat", *map(str, vector), f"photo {row}"]) for row, vector in enumerate(vectors)]
    (tmp_path / "wide.csv").write_text("\n".join(lines) + "\n")
    _, index = bring(tmp_path, tmp_path / "wide.csv")
    assert np.allclose(np.stack([vectors_of(index)[f"photo {row}"] for row in range(5)]), vectors, atol=1e-6)
    assert {record.label for record in index.records.values()} == {"cat"}


def test_exact_values_stay_bit_for_bit_and_rounded_ones_become_unit(tmp_path: Path) -> None:
    vectors = unit_vectors(3, 64)
    exact = ["vecid,vectors"] + [f'{row},"{listed(vector)}"' for row, vector in enumerate(vectors)]
    (tmp_path / "x.csv").write_text("\n".join(exact))
    _, index = bring(tmp_path, tmp_path / "x.csv")
    for row, vector in enumerate(vectors):
        assert vectors_of(index)[str(row)].tobytes() == vector.tobytes()
    rounded = ["vecid,vectors"] + [
        f'{row},"{listed(vector.round(4).astype(float))}"' for row, vector in enumerate(vectors)
    ]
    (tmp_path / "y.csv").write_text("\n".join(rounded))
    _, index = bring(tmp_path / "rounded", tmp_path / "y.csv")
    assert all(abs(np.linalg.norm(vector) - 1) < 2e-6 for vector in vectors_of(index).values())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("vecid,vectors\na,[1 0]\nb,[1 0 0]\n", "row 2 ('b'): 3 values, row 1 has 2"),
        ("vecid,vectors\na,[1 0]\nb,[]\n", "row 2 ('b'): 0 values, row 1 has 2"),
        ("vecid,vectors\na,[1 nan]\n", "row 1 ('a'): value 2 of its vector is nan"),
        ("vecid,vectors\na,[1 0]\nb,[inf 0]\n", "row 2 ('b'): value 1 of its vector is inf"),
        ("vecid,vectors\na,[1e300 0]\n", "row 1 ('a'): value 1 of its vector is inf"),
        ("vecid,vectors\na,[1 0]\nb,[0 x1]\n", "row 2 ('b'): value 2 is 'x1', not a number"),
        ("vecid,vectors\na,[0.1 0.2 ... 0.3]\n", "row 1 ('a'): value 3 is '...', not a number"),
        ("vecid,vectors\na,1 0\n", "row 1 ('a'): '1 0' is not a list in brackets"),
        ("vecid,vectors\na,[1 0]\nb,[0 1]\na,[0 1]\n", "row 3 ('a'): duplicate id, row 1 has it too"),
        ("vecid,vectors\n ,[1 0]\n", "row 1: its id is empty"),
        ("vecid,vectors\na,[3 4]\n", "row 1 ('a'): its vector has length 5, not 1; --normalise divides by it"),
        ("vecid,vectors\na,[0 0]\n", "row 1 ('a'): its vector has length 0"),
        ("vecid,vectors\na,[1 0],x\n", "row 1 (line 2): 3 cells, the header has 2"),
        ("id,x,y\na,1,0\nb,1,\n", "row 2 ('b'): column y is '', not a number"),
        ("id,label\na,b\n", "no columns of values"),
        (",id,x\n0,a,1\n", "column 1 has no name"),
        ("name,x\na,1\n", "has no column vecid or id; its columns are: name, x"),
        ("vecid,vectors\n", "holds no images"),
        ('vecid,vectors\na,"[1 0]\nb,[0 1]\n', "row 1 (line 2): column 'vectors': a quote is not closed in its line"),
        ("vecid,vectors,vectors\na,[1 0],[1 0]\n", "duplicate column 'vectors'"),
        ("id,ids,x\na,b,1\n", "columns 'id' and 'ids' may each be 'vecid'"),
        ("id,x,y\na,1\n", "row 1 (line 2): 2 cells, the header has 3"),
        ("", "has no column vecid"),
    ],
)
def test_bad_csvs_are_named_by_row_and_value(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(text)
    message = refusal(tmp_path, tmp_path / "x.csv")
    assert says in message
    assert message.startswith(str(tmp_path / "x.csv"))


def test_normalising_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text('vecid,vectors\na,"[3, 4]"\nb,"[0, 1]"\n')
    _, index = bring(tmp_path, tmp_path / "x.csv", normalise=True)
    assert vectors_of(index)["a"] == pytest.approx([0.6, 0.8])
    (tmp_path / "y.csv").write_text('vecid,vectors\na,"[0, 0]"\n')
    assert "no direction" in refusal(tmp_path / "zero", tmp_path / "y.csv", normalise=True)


# --- all formats ------------------------------------------------------------------------------------------------------


def write_csv(file: Path, seed: int = 0, ids: str = "abcd") -> Path:
    rows = [f'{name},"{listed(v)}"' for name, v in zip(ids, unit_vectors(len(ids), 8, seed), strict=True)]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(["vecid,vectors", *rows]))
    return file


def test_the_same_words_share_an_index_and_others_do_not(tmp_path: Path) -> None:
    first, second = write_csv(tmp_path / "1.csv"), write_csv(tmp_path / "2.csv", 1, "dxy")
    bring(tmp_path, first, model="ViT")
    result, index = bring(tmp_path, second, model="ViT")
    assert (result.images, result.replaced, len(index.records)) == (3, 1, 6)
    assert "made by another model" in refusal(tmp_path, second, model="ResNet")
    assert "made by another model" in refusal(tmp_path, second)
    bring(tmp_path / "silent", first)
    assert "made by another model" in refusal(tmp_path / "silent", second)  # who says nothing is taken at no word


def test_a_failure_in_the_middle_leaves_a_whole_index(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "x.csv")
    source.write_text(source.read_text() + '\nz,"[2, 0, 0, 0, 0, 0, 0, 0]"\n')
    assert "row 5 ('z')" in refusal(tmp_path, source)
    index = Index(tmp_path / "index")
    assert index.verify() == []
    assert list(index.records) == ["a", "b", "c"]  # the parts that were whole


def test_paths_and_labels_come_from_a_catalog(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "x.csv")
    (tmp_path / "photos").mkdir()
    manifest = tmp_path / "photos" / "m.csv"
    manifest.write_text("path,id,label,split\none.jpg,a,cat,val\ntwo.jpg,b,dog,val\n")
    result, index = bring(tmp_path, source, images=str(manifest))
    assert result.unmatched == 2
    assert index.records["a"].label == "cat"
    assert index.image_file(index.records["b"]) == tmp_path / "photos" / "two.jpg"
    assert index.records["c"].path == "c"


def test_formats_by_name(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "vectors.txt")
    assert "cannot tell its format" in refusal(tmp_path, source)
    result, _ = bring(tmp_path, source, format="csv")
    assert result.images == 4
    with pytest.raises(UsageError, match="unknown format 'amse'; did you mean 'ames'"):
        bring(tmp_path, source, format="amse")
    assert "no such file" in refusal(tmp_path, tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    assert "cannot tell its format" in refusal(tmp_path, tmp_path / "empty")
    assert "holds no .delg_global or .delg_local" in refusal(tmp_path, tmp_path / "empty", format="delg")


def test_no_describer_answers_for_what_was_imported(tmp_path: Path) -> None:
    bring(tmp_path, write_csv(tmp_path / "x.csv"))
    config = load_config(None, [f"index={tmp_path / 'index'}"])
    with pytest.raises(RelookError, match="come from another program"):
        open_describer(config, Index(tmp_path / "index"))


def test_the_command_line(tmp_path: Path) -> None:
    ames_file(tmp_path / "x.hdf5", images=6, count=8)
    labels = "".join(f"{row},{row}.jpg,{row % 2}\n" for row in range(6))
    (tmp_path / "labels.csv").write_text("id,path,label\n" + labels)
    index = tmp_path / "index"
    arguments = ["--scales", "0.7071,1,1.4142", "--images", tmp_path / "labels.csv", "--index", index]
    result = document("import", tmp_path / "x.hdf5", "--format", "ames", *arguments)
    assert (result["images"], result["unmatched"], result["globals"]) == (6, 0, "mean of local descriptors")
    measured = document("evaluate", "--index", index, "--rerank", "none")
    assert (measured["queries"], measured["gallery"]) == (6, 6)
    result = document("export", tmp_path / "y.hdf5", "--index", index, "--count", 4)
    assert (result["images"], result["count"], result["dimension"]) == (6, 4, 16)
    with h5py.File(tmp_path / "x.hdf5") as one, h5py.File(tmp_path / "y.hdf5") as other:
        lengths = np.linalg.norm(one["features"][:, :4, 5:], axis=-1, keepdims=True)
        units = np.divide(one["features"][:, :4, 5:], lengths, where=lengths > 0, out=np.zeros((6, 4, 16), np.float32))
        assert np.array_equal(one["features"][:, :4, :5], other["features"][:, :, :5])
        assert np.allclose(units, other["features"][:, :, 5:], atol=1e-3)
    assert "expected numbers above 0" in refused(2, "import", tmp_path / "x.hdf5", "--scales", "1,x", "-q")
