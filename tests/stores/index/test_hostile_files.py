"""Files made to do harm: manifests, configurations, checkpoints and indexes that somebody else sends.

Each is refused in one line that names the file and says why, before anything that it asks for is done.
"""

from __future__ import annotations

import csv
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from cli_helpers import refused
from stores_helpers import make_index

from pipeline.catalog import load_catalog
from pipeline.checkpoints import read_checkpoint
from pipeline.config import load_config
from pipeline.errors import RelookError, UsageError
from pipeline.stores import Index, IndexWriter
from pipeline.stores.exchange.ames import open_ames
from pipeline.stores.exchange.base import Options


def refusal(call: Callable[..., Any], *arguments: Any, kind: type[RelookError] = RelookError) -> str:
    """The one line with which something is refused."""
    with pytest.raises(kind) as caught:
        call(*arguments)
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 1000
    return line


# --- manifests --------------------------------------------------------------------------------------------------------


def write_manifest(folder: Path, ending: str, **cells: str) -> str:
    """A manifest of a good row and then one of these cells."""
    good = {"path": "good.jpg", "id": "good", "label": "", "split": ""}
    rows = [good, {"path": "second.jpg", "id": "second", "label": "", "split": "", **cells}]
    file = folder / f"manifest.{ending}"
    if ending == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), file)
    else:
        with file.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(good))
            writer.writeheader()
            writer.writerows(rows)
    return str(file)


OUTSIDE = [
    "/etc/passwd",
    "../secret.jpg",
    "a/../../b.jpg",
    "..",
    "a\\..\\..\\b.jpg",
    "C:\\x.jpg",
    "\\\\host\\share\\x.jpg",
]
URLS = [
    "https://host/a.jpg",
    "HTTP://host/a.jpg",
    "file:///etc/passwd",
    "s3://bucket/a.jpg",
    "data:image/png;base64,iVBO",
]
FORMULAS = ["=cmd()", "=1+1", "=cmd|'/C calc'!A0", "+cmd|'/C calc'!A0", "@SUM(1,1)", "-cmd|'/C calc'!A0"]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
@pytest.mark.parametrize("path", OUTSIDE)
def test_a_path_that_leaves_the_folder_of_a_manifest(path: str, ending: str, tmp_path: Path) -> None:
    source = write_manifest(tmp_path, ending, path=path)
    line = refusal(load_catalog, source)
    assert line.startswith(f"{source}, image 2: the path '")
    assert line.endswith("to allow that: --set catalog.outside=allow")
    assert len(load_catalog(source, outside="allow")) == 2


def test_an_absolute_path_into_the_folder_is_as_good_as_a_relative_one(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "real").mkdir()
    for folder in (tmp_path / "real", tmp_path / "link"):
        catalog = load_catalog(write_manifest(folder, "csv", path=f"{folder}/x/b.jpg"))
        assert catalog.file(catalog.records[1]) == folder / "x" / "b.jpg"


@pytest.mark.parametrize("ending", ["csv", "parquet"])
@pytest.mark.parametrize("path", URLS)
def test_a_url_is_not_fetched(path: str, ending: str, tmp_path: Path) -> None:
    source = write_manifest(tmp_path, ending, path=path)
    for outside in ("refuse", "allow"):
        line = refusal(load_catalog, source, "none", outside)
        assert line.startswith(f"{source}, row 2: the path '{path[:60]}' is a URL; ")


@pytest.mark.parametrize("column", ["id", "label", "split"])
@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_for_spreadsheets_is_the_text_that_it_is(text: str, column: str, tmp_path: Path) -> None:
    """Reports that people open in spreadsheets escape it; names such as -copy(1).jpg are common."""
    source = write_manifest(tmp_path, "csv", **{column: text})
    assert getattr(load_catalog(source).records[1], column) == text


@pytest.mark.parametrize("text", ["-5", "+49", "@home", "a=b", "-5 (old)", "C++ (book)", "1=1"])
def test_words_that_only_begin_alike(text: str, tmp_path: Path) -> None:
    assert load_catalog(write_manifest(tmp_path, "csv", label=text)).records[1].label == text


@pytest.mark.parametrize("ending", ["csv", "parquet"])
@pytest.mark.parametrize("column", ["path", "id", "label", "split"])
def test_a_cell_as_long_as_a_book(column: str, ending: str, tmp_path: Path) -> None:
    source = write_manifest(tmp_path, ending, **{column: "x" * 100_000})
    assert refusal(load_catalog, source).startswith(source)
    source = write_manifest(tmp_path, ending, **{column: "x" * 4097})
    assert refusal(load_catalog, source) == f"{source}, row 2: the {column} has 4,097 characters, more than 4,096"
    assert len(load_catalog(write_manifest(tmp_path, ending, **{column: "x" * 4096}))) == 2


def test_a_parquet_file_of_few_bytes_and_endless_rows(tmp_path: Path) -> None:
    file = tmp_path / "bomb.parquet"
    schema = pa.schema([("path", pa.string())])
    batch = pa.table({"path": pa.DictionaryArray.from_arrays(np.zeros(2_000_000, np.int32), ["a.jpg"])}).cast(schema)
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for _ in range(26):
            writer.write_table(batch)
    assert file.stat().st_size < 1_000_000
    assert refusal(load_catalog, str(file)) == f"{file}: 52,000,000 rows, more than the 50,000,000 allowed"


def test_a_long_text_in_every_row_is_refused_before_it_is_repeated(tmp_path: Path) -> None:
    file = tmp_path / "bomb.parquet"
    label = pa.DictionaryArray.from_arrays(np.zeros(100_000, np.int32), ["x" * 10_000_000])
    pq.write_table(pa.table({"path": [f"{row}.jpg" for row in range(100_000)], "label": label}), file)
    assert file.stat().st_size < 3_000_000
    assert refusal(load_catalog, str(file)).endswith("a text of 10,000,000 bytes in column 'label' is too long")


@pytest.mark.parametrize("values", [[["a.jpg"], ["b.jpg"]], [{"a": 1}, {"a": 2}]])
def test_a_column_of_something_else_than_texts(values: Any, tmp_path: Path) -> None:
    pq.write_table(pa.table({"path": values}), tmp_path / "m.parquet")
    assert "column 'path' holds no texts but" in refusal(load_catalog, str(tmp_path / "m.parquet"))


def test_a_text_of_parquet_that_is_no_utf_8(tmp_path: Path) -> None:
    raw = pa.array([b"caf\xe9.jpg"], pa.binary())
    column = pa.StringArray.from_buffers(1, raw.buffers()[1], raw.buffers()[2])
    pq.write_table(pa.table({"path": column}), tmp_path / "m.parquet")
    assert "cannot be read as Parquet" in refusal(load_catalog, str(tmp_path / "m.parquet"))


# --- configurations ---------------------------------------------------------------------------------------------------


def configured(folder: Path, text: str) -> str:
    """The line with which a configuration of this text is refused, without the file's name."""
    (folder / "c.yaml").write_text(text)
    line = refusal(load_config, folder / "c.yaml", kind=UsageError)
    assert line.startswith(f"{folder}/c.yaml: ")
    return line.removeprefix(f"{folder}/c.yaml: ")


def bomb(levels: int, value: str = "[1, 2, 3]") -> str:
    """Anchors that name each other nine times: 9^levels values of a few lines."""
    lines = [f"a0: &a0 {value}"]
    lines += [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]" for level in range(1, levels + 1)]
    return "\n".join(lines)


def test_keys_that_are_unknown(tmp_path: Path) -> None:
    assert configured(tmp_path, "serch: {top_k: 5}") == "unknown key serch; did you mean search?"
    assert configured(tmp_path, "describe: {image: {sise: 5}}").startswith("unknown key describe.image.sise; did you")
    assert "unknown key" in configured(tmp_path, "__class__: 5")


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:os.system ['touch pwned']", "!!python/name:os.system", "!own x"]
)
def test_tags_make_no_objects(tag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "not valid YAML (could not determine a constructor" in configured(tmp_path, f"index: {tag}")
    assert not (tmp_path / "pwned").exists()
    assert "not valid YAML" in refusal(load_config, None, [f"index={tag}"], kind=UsageError)


def test_anchors_that_multiply(tmp_path: Path) -> None:
    assert configured(tmp_path, bomb(9)) == "not valid YAML (its anchors make more than 10,000 values of it)"
    merged = "a0: &a0 {x: 1}\n" + "\n".join(
        f"a{level}: &a{level}\n  <<: [{', '.join([f'*a{level - 1}'] * 9)}]" for level in range(1, 10)
    )
    assert "anchors make more" in configured(tmp_path, merged)
    assert configured(tmp_path, "index: &a [*a]") == "not valid YAML (an anchor holds itself)"
    assert configured(tmp_path, "&a {index: *a}") == "not valid YAML (an anchor holds itself)"


def test_anchors_with_reason_are_read(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        "describe: {globals: {scales: &s [1.0, 0.5]}, locals: {scales: *s}, image: &i {size: 96}}"
    )
    config = load_config(tmp_path / "c.yaml")
    assert config.describe.globals.scales == config.describe.locals.scales == (1.0, 0.5)


def test_a_configuration_of_endless_length_or_depth(tmp_path: Path) -> None:
    assert "too long for a configuration" in configured(tmp_path, "# " + "x" * 2_000_000)
    assert "not valid YAML" in configured(tmp_path, "index: " + "[" * 5000)
    assert len(configured(tmp_path, f"seed: {'x' * 100_000}")) < 500
    assert "not valid YAML" in configured(tmp_path, f"seed: {'9' * 10_000}")


def test_the_command_line_says_it_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(bomb(9))
    line = refused(2, "upload", "--config", tmp_path / "c.yaml")
    assert line == f"relook: {tmp_path}/c.yaml: not valid YAML (its anchors make more than 10,000 values of it)"


# --- checkpoints ------------------------------------------------------------------------------------------------------


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.file}",)


REMEDY = "save the weights alone: torch.save(model.state_dict(), FILE)"


def test_a_checkpoint_that_is_a_pickle_bomb(tmp_path: Path) -> None:
    pwned = tmp_path / "pwned"
    (tmp_path / "plain.pt").write_bytes(pickle.dumps({"state_dict": Bomb(pwned)}))
    torch.save({"state_dict": {"w": torch.ones(2), "x": Bomb(pwned)}}, tmp_path / "torch.pt")
    torch.save(Bomb(pwned), tmp_path / "legacy.pt", _use_new_zipfile_serialization=False)
    for name in ("plain.pt", "torch.pt", "legacy.pt"):
        line = refusal(read_checkpoint, tmp_path / name)
        reasons = ("no weights, or more than weights", f"more than weights: {os.name}.system; {REMEDY}")
        assert line in [f"{tmp_path / name}: cannot be read as a checkpoint ({reason})" for reason in reasons]
    line = refused(1, "convert", tmp_path / "torch.pt", tmp_path / "out.safetensors")
    assert "more than weights: " in line
    assert not pwned.exists()
    assert not (tmp_path / "out.safetensors").exists()


def test_a_checkpoint_that_claims_more_than_it_holds(tmp_path: Path) -> None:
    huge = torch.ones(1).expand(1_000_000, 1_000_000)
    torch.save({"state_dict": {"conv1.weight": huge}}, tmp_path / "a.pt")
    assert "conv1.weight of shape [1000000, 1000000] is more than the file holds" in refusal(
        read_checkpoint, tmp_path / "a.pt"
    )
    torch.save({"state_dict": {"w": torch.empty(10**6, 10**6, device="meta")}}, tmp_path / "b.pt")
    assert "w of shape [1000000, 1000000]" in refusal(read_checkpoint, tmp_path / "b.pt")


def test_a_compressed_checkpoint(tmp_path: Path) -> None:
    torch.save({"state_dict": {"w": torch.zeros(1000, 1000)}}, tmp_path / "a.pt")
    with (
        zipfile.ZipFile(tmp_path / "a.pt") as plain,
        zipfile.ZipFile(tmp_path / "b.pt", "w", zipfile.ZIP_DEFLATED) as z,
    ):
        for name in plain.namelist():
            z.writestr(name, plain.read(name))
    assert (tmp_path / "b.pt").stat().st_size < 20_000
    assert read_checkpoint(tmp_path / "a.pt").state["w"].shape == (1000, 1000)
    assert "is compressed, which checkpoints are not" in refusal(read_checkpoint, tmp_path / "b.pt")


def safetensors_of(header: bytes, length: int | None = None, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + data


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
ABSURD = {
    "a header of petabytes": safetensors_of(b"{}", 2**50),
    "a header beyond all numbers": safetensors_of(b"{}", 2**64 - 1),
    "a header longer than the file": safetensors_of(b'{"w":', 5000),
    "no JSON": safetensors_of(b"{" + b"\xff" * 50),
    "endless nesting": safetensors_of(b'{"a":' * 50_000),
    "a shape beyond all numbers": safetensors_of(json.dumps({"w": {**ENTRY, "shape": [2**40, 2**40]}}).encode()),
    "a shape larger than its bytes": safetensors_of(
        json.dumps({"w": {**ENTRY, "shape": [9]}}).encode(), None, bytes(8)
    ),
    "bytes beyond the end": safetensors_of(json.dumps({"w": {**ENTRY, "data_offsets": [0, 800]}}).encode()),
    "bytes before the start": safetensors_of(json.dumps({"w": {**ENTRY, "data_offsets": [-8, 0]}}).encode()),
    "bytes of two tensors": safetensors_of(json.dumps({"a": ENTRY, "b": ENTRY}).encode(), None, bytes(8)),
    "a type that is none": safetensors_of(json.dumps({"w": {**ENTRY, "dtype": "X9"}}).encode(), None, bytes(8)),
    "a header of relook that is no table": safetensors_of(
        json.dumps({"__metadata__": {"relook": "[1]"}, "w": ENTRY}).encode(), None, bytes(8)
    ),
    "a header of relook that nests": safetensors_of(
        json.dumps({"__metadata__": {"relook": "[" * 100_000}, "w": ENTRY}).encode(), None, bytes(8)
    ),
}


@pytest.mark.parametrize("kind", ABSURD)
def test_safetensors_with_an_absurd_header(kind: str, tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(ABSURD[kind])
    line = refusal(read_checkpoint, tmp_path / "a.safetensors")
    assert line.startswith(f"{tmp_path}/a.safetensors: ")


@pytest.mark.parametrize("kind", [kind for kind in ABSURD if "relook" not in kind])  # projections have no such header
def test_fitted_projections_with_an_absurd_header(kind: str, tmp_path: Path) -> None:
    make_index(tmp_path / "index")
    (tmp_path / "index" / "model").mkdir(exist_ok=True)
    (tmp_path / "index" / "model" / "fitted.safetensors").write_bytes(ABSURD[kind])
    fitted = {"path": "model/fitted.safetensors", "bytes": 1, "sha256": "0"}
    edit(tmp_path / "index", lambda values: values.update(fitted=fitted))
    assert "fitted.safetensors: cannot be read" in refusal(Index(tmp_path / "index").fitted)


# --- indexes ----------------------------------------------------------------------------------------------------------


def edit(directory: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change `index.json` by hand."""
    values = json.loads((directory / "index.json").read_text())
    change(values)
    (directory / "index.json").write_text(json.dumps(values))


def set_path(path: str) -> Callable[[dict[str, Any]], object]:
    return lambda values: values["parts"][0]["files"]["globals"].update(path=path)


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../other/part.parquet",
        "globals/../../x",
        "globals//x",
        "",
        ".",
        "C:/x",
        "a\\b",
        "a\0b",
        "a\ud800b",
    ],
)
def test_a_part_outside_the_index(path: str, tmp_path: Path) -> None:
    make_index(tmp_path / "index")
    edit(tmp_path / "index", set_path(path))
    line = refusal(Index, tmp_path / "index")
    assert "index.json: damaged (parts.0.files.globals.path: " in line
    assert "leads out of the index" in line
    assert "damaged" in refusal(IndexWriter(tmp_path / "index").__enter__)


def test_a_part_that_is_a_link(tmp_path: Path) -> None:
    index = make_index(tmp_path / "index")
    part = tmp_path / "index" / index.manifest.parts[0].files["globals"].path
    part.rename(tmp_path / "elsewhere.parquet")
    part.symlink_to(tmp_path / "elsewhere.parquet")
    assert refusal(Index, tmp_path / "index") == f"{part}: a link, which a part of an index must not be; copy the file"


def test_a_folder_of_parts_that_is_a_link(tmp_path: Path) -> None:
    make_index(tmp_path / "index")
    (tmp_path / "index" / "locals").rename(tmp_path / "locals")
    (tmp_path / "index" / "locals").symlink_to(tmp_path / "locals")
    assert "a link, which a part of an index must not be" in refusal(Index, tmp_path / "index")


def test_the_index_itself_may_be_a_link(tmp_path: Path) -> None:
    make_index(tmp_path / "index")
    (tmp_path / "link").symlink_to(tmp_path / "index")
    assert set(Index(tmp_path / "link").records) == {"a", "b", "c"}


CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "rows below zero": lambda values: values["parts"][0].update(rows=-3),
    "rows without end": lambda values: values["parts"][0].update(rows=10**30),
    "tombstones beyond the rows": lambda values: values["parts"][0].update(deleted=[7]),
    "tombstones below zero": lambda values: values["parts"][0].update(deleted=[-1]),
    "tombstones twice": lambda values: values["parts"][0].update(deleted=[1, 1]),
    "a card that is none": lambda values: values.update(model={"name": "x"}),
    "a card with more": lambda values: values["model"].update(more=1),
    "a dimension in words": lambda values: values["model"].update(dimension="many"),
    "settings that are none": lambda values: values["model"].update(settings=[1, 2]),
    "another card": lambda values: values["model"].update(weights="sha256:0"),
    "a key that is unknown": lambda values: values.update(run="me"),
    "a kind that is unknown": lambda values: values["parts"][0]["files"].update(code={"path": "x"}),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_manifest_that_was_changed(kind: str, tmp_path: Path) -> None:
    make_index(tmp_path / "index")
    edit(tmp_path / "index", CHANGES[kind])
    assert refusal(Index, tmp_path / "index").startswith(f"{tmp_path}/index/index.json: damaged (")


@pytest.mark.parametrize("text", ["[" * 100_000, '{"format":' * 20_000, '{"format": 1, "x": ' + "9" * 10_000 + "}"])
def test_json_without_end(text: str, tmp_path: Path) -> None:
    make_index(tmp_path / "index")
    (tmp_path / "index" / "index.json").write_text(text)
    assert refusal(Index, tmp_path / "index").startswith(f"{tmp_path}/index/index.json: cannot be read (")


SECRET = np.arange(24, dtype=np.float16).reshape(6, 4)


def external_link(file: h5py.File, folder: Path) -> None:
    with h5py.File(folder / "secret.h5", "w") as other:
        other["descriptors"] = SECRET
    file["descriptors"] = h5py.ExternalLink(str(folder / "secret.h5"), "/descriptors")


def external_dataset(file: h5py.File, folder: Path) -> None:
    (folder / "secret.bin").write_bytes(SECRET.tobytes())
    file.create_dataset(
        "descriptors", (6, 4), np.float16, external=[(str(folder / "secret.bin"), 0, h5py.h5f.UNLIMITED)]
    )


def virtual_dataset(file: h5py.File, folder: Path) -> None:
    with h5py.File(folder / "secret.h5", "w") as other:
        other["x"] = SECRET
    layout = h5py.VirtualLayout((6, 4), np.float16)
    layout[:] = h5py.VirtualSource(str(folder / "secret.h5"), "x", (6, 4))
    file.create_virtual_dataset("descriptors", layout)


def soft_link(file: h5py.File, _: Path) -> None:
    file["xy2"] = SECRET
    file["descriptors"] = h5py.SoftLink("/xy2")


def group(file: h5py.File, _: Path) -> None:
    file.create_group("descriptors")["x"] = SECRET


def never_written(file: h5py.File, _: Path) -> None:
    file.create_dataset("descriptors", (10**6, 10**6), np.float16)


def compressed(file: h5py.File, _: Path) -> None:
    file.create_dataset("descriptors", (6, 4), np.float16, data=SECRET, compression="gzip")


def words(file: h5py.File, _: Path) -> None:
    file["descriptors"] = np.array([[b"abc"] * 4] * 6)


def many(file: h5py.File, _: Path) -> None:
    file["descriptors"] = SECRET
    for number in range(100):
        file[f"x{number}"] = SECRET


def without_header(part: Path) -> None:
    """The part as relook wrote it before parts had a header: HDF5 alone says where its arrays lie."""
    with h5py.File(part) as file:
        arrays = {name: file[name][()] for name in file}
    with h5py.File(part, "w") as file:
        for name, values in arrays.items():
            file[name] = values


HDF5 = {
    external_link: "descriptors is a link to somewhere else",
    external_dataset: "the values of descriptors lie in another file",
    virtual_dataset: "the values of descriptors lie in another file",
    soft_link: "descriptors is a link to somewhere else",
    group: "descriptors is no dataset",
    never_written: "descriptors has 1,000,000,000,000 values, which the file does not hold",
    compressed: "descriptors is not stored in one piece",
    words: "descriptors holds no numbers",
    many: "holds 106 datasets",
}


@pytest.mark.parametrize("hostile", HDF5, ids=lambda hostile: hostile.__name__)
def test_local_descriptors_that_lie_elsewhere(hostile: Callable[[h5py.File, Path], None], tmp_path: Path) -> None:
    index = make_index(tmp_path / "index")
    part = tmp_path / "index" / index.manifest.parts[0].files["locals"].path
    without_header(part)
    with h5py.File(part, "a") as file:
        del file["descriptors"]
        hostile(file, tmp_path)
    line = refusal(Index(tmp_path / "index").locals, ["b"])
    assert line.startswith(f"{part}: cannot be read (")
    assert HDF5[hostile] in line


ELSEWHERE = [external_link, external_dataset, virtual_dataset, soft_link, group, never_written]


@pytest.mark.parametrize("hostile", ELSEWHERE, ids=lambda hostile: hostile.__name__)
@pytest.mark.parametrize("name", ["features", "ids"])
def test_descriptors_of_others_that_lie_elsewhere(
    name: str, hostile: Callable[[h5py.File, Path], None], tmp_path: Path
) -> None:
    source = tmp_path / "ames.hdf5"
    with h5py.File(source, "w") as file:
        hostile(file, tmp_path)
        file.move("descriptors", name)
        if name == "ids":
            file["features"] = np.zeros((6, 2, 9), np.float32)
    assert refusal(open_ames, source, Options()).startswith(f"{source}: refused: ")


@pytest.mark.parametrize("offsets", [[0, -5, 1, 3], [0, 2, 1, 3], [0], [2**62, 2**63 - 1, 0, 0], [0, 0, 2**60, 0]])
def test_offsets_that_lead_nowhere(offsets: list[int], tmp_path: Path) -> None:
    index = make_index(tmp_path / "index")
    part = tmp_path / "index" / index.manifest.parts[0].files["locals"].path
    without_header(part)
    with h5py.File(part, "a") as file:
        del file["offsets"]
        file["offsets"] = np.array(offsets, np.int64)
    assert refusal(Index(tmp_path / "index").locals, ["b"]).startswith(f"{part}: cannot be read (")


def test_parts_as_relook_writes_them_are_read(tmp_path: Path) -> None:
    index = make_index(tmp_path / "index")
    assert [len(item) for item in index.locals(["a", "b", "c"])] == [0, 1, 2]


HEADERS: dict[str, tuple[dict[str, Any], str]] = {
    "beyond the file": ({"descriptors": [2**40, "<f2", [3, 4]]}, "an array ends after byte"),
    "longer than the file": ({"descriptors": [1024, "<f2", [10**4, 4]]}, "an array ends after byte"),
    "before the file": ({"descriptors": [-8, "<f2", [3, 4]]}, "an array of shape"),
    "no number": ({"descriptors": [True, "<f2", [3, 4]]}, "an array of shape"),
    "objects": ({"descriptors": [1024, "|O", [3, 4]]}, "holds no numbers"),
    "many axes": ({"descriptors": [1024, "<f2", [1] * 99]}, "an array of shape"),
    "no rows": ({"descriptors": [1024, "<f2", []]}, "has no rows"),
    "endless rows": ({"descriptors": [1024, "<f2", [0, 2**40]]}, "has rows of"),
    "no type": ({"descriptors": [1024, "what", [3, 4]]}, "damaged"),
    "a word": ({"descriptors": "abc"}, "damaged"),
    "many": ({f"x{number}": [1024, "<f2", [1]] for number in range(17)}, "17 arrays"),
}


@pytest.mark.parametrize("kind", HEADERS)
def test_a_header_that_was_changed(kind: str, tmp_path: Path) -> None:
    index = make_index(tmp_path / "index")
    part = tmp_path / "index" / index.manifest.parts[0].files["locals"].path
    content, (arrays, why) = bytearray(part.read_bytes()), HEADERS[kind]
    said = b"relook-part 1 " + json.dumps({"bytes": len(content), "arrays": arrays}).encode()
    content[:1024] = said.ljust(1024)
    part.write_bytes(content)
    line = refusal(Index(tmp_path / "index").locals, ["b"])
    assert line.startswith(f"{part}: cannot be read (its header is damaged: ")
    assert why in line


@pytest.mark.parametrize("said", [b"", b"[1]", b"{", b'{"bytes": 1}', b"[" * 1000])
def test_a_header_without_arrays(said: bytes, tmp_path: Path) -> None:
    index = make_index(tmp_path / "index")
    part = tmp_path / "index" / index.manifest.parts[0].files["locals"].path
    content = part.read_bytes()
    part.write_bytes((b"relook-part 1 " + said).ljust(1024) + content[1024:])
    if b"bytes" in said:  # it was made for a file of another length: HDF5 has all that is needed
        assert [len(item) for item in Index(tmp_path / "index").locals(["a", "b", "c"])] == [0, 1, 2]
    else:
        assert refusal(Index(tmp_path / "index").locals, ["b"]).startswith(f"{part}: cannot be read (its header")


def test_a_part_that_is_cut_short(tmp_path: Path) -> None:
    index = make_index(tmp_path / "index")
    part = tmp_path / "index" / index.manifest.parts[0].files["locals"].path
    content = part.read_bytes()
    for length in (0, 3, 1000, 1024, 2000, len(content) - 1):
        part.write_bytes(content[:length])
        assert refusal(Index(tmp_path / "index").locals, ["c"]).startswith(f"{part}: cannot be read (")


def test_a_part_that_is_cut_short_after_it_was_opened(tmp_path: Path) -> None:
    index = make_index(tmp_path / "index")
    part = tmp_path / "index" / index.manifest.parts[0].files["locals"].path
    assert len(index.locals(["c"])[0]) == 2
    with part.open("r+b") as file:
        file.truncate(1100)
    assert refusal(index.locals, ["c"]) == f"{part}: cannot be read (it is cut short)"
