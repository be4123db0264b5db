"""Damaged, missing and foreign files of an index: each is named in one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from stores_helpers import (
    FITTED,
    ROOT,
    make_card,
    make_index,
    make_items,
    one_line,
)

from pipeline.errors import RelookError
from pipeline.stores import Index, IndexWriter


def test_verify_names_every_file_that_is_wrong(tmp_path: Path, tables: Any) -> None:
    with IndexWriter(tmp_path) as writer:
        writer.begin(make_card(), FITTED, ROOT, tables)
        writer.add(*make_items(["a", "b"], 1, [2, 2]))
        writer.add(*make_items(["c"], 2, [2]))
    index = Index(tmp_path)
    files = [tmp_path / file.path for file in index.manifest.files()]
    assert len(files) == 7
    damaged, shorter, missing, longer = files[0], files[2], files[4], files[6]
    flip(damaged)
    shorter.write_bytes(shorter.read_bytes()[:-7])
    missing.unlink()
    longer.write_bytes(longer.read_bytes() + b"x")
    wrong = index.verify()
    assert len(wrong) == 4
    assert wrong[0] == f"{damaged}: damaged (its checksum differs)"
    size = index.manifest.files()[2].bytes
    assert wrong[1] == f"{shorter}: {size - 7} bytes instead of {size}"
    assert wrong[2] == f"{missing}: missing"
    assert wrong[3].startswith(f"{longer}: ")


@pytest.mark.parametrize("kind", ["catalog", "globals", "locals", "model"])
@pytest.mark.parametrize("how", ["empty", "shorter", "missing", "other"])
def test_a_file_that_cannot_be_read_is_one_clear_error(tmp_path: Path, tables: Any, kind: str, how: str) -> None:
    with IndexWriter(tmp_path) as writer:
        writer.begin(make_card(), FITTED, ROOT, tables)
        writer.add(*make_items(["a", "b"], 1, [2, 2]))
    index = Index(tmp_path)
    (file,) = (tmp_path / kind).iterdir()
    if how == "missing":
        file.unlink()
    else:
        data = file.read_bytes()
        file.write_bytes({"empty": b"", "shorter": data[: len(data) // 2], "other": b"\x89PNG\r\n\x1a\n" * 99}[how])
    read = {
        "catalog": lambda: index.records,
        "globals": lambda: list(index.globals_parts()),
        "locals": lambda: index.locals(["a"]),
        "model": index.fitted,
    }[kind]
    with pytest.raises(RelookError) as error:
        read()
    assert str(file) in one_line(error)


def test_locals_of_a_foreign_file_are_one_clear_error(tmp_path: Path) -> None:
    index = make_index(tmp_path)
    (file,) = (tmp_path / "locals").iterdir()
    with h5py.File(file, "w") as foreign:
        foreign["offsets"] = np.array([0, 1])
    for name in ("a", "c"):
        with pytest.raises(RelookError) as error:
            index.locals([name])
        assert str(file) in one_line(error)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def edited(**changes: Any) -> Any:
    def edit(path: Path) -> None:
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return edit


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.write_bytes(b""), "cannot be read"),
        (lambda path: path.write_bytes(path.read_bytes()[:200]), "cannot be read"),
        (lambda path: path.write_bytes(b"\0" * 500), "cannot be read"),
        (lambda path: path.write_bytes(b"\xff\xfe{}"), "cannot be read"),
        (lambda path: path.write_text("[]"), "index format None"),
        (lambda path: path.write_text("{}"), "index format None"),
        (edited(format=3), "index format 3; this relook reads formats 1 and 2; a newer relook wrote it"),
        (edited(format="2"), "index format '2'"),
        (edited(fingerprint="0123456789abcdef"), "does not have fingerprint 0123456789abcdef"),
        (edited(model={}), "damaged"),
        (edited(model={**make_card().to_json(), "settings": "none"}), "damaged"),
        (edited(model={**make_card().to_json(), "settings": 5}), "damaged"),
        (edited(model={**make_card().to_json(), "name": "other"}), "damaged"),
        (edited(parts=[{"name": "p"}]), "damaged"),
        (edited(tables="orc"), "damaged"),
        (edited(surprise=1), "damaged"),
        (lambda path: (path.unlink(), path.mkdir()), "cannot be read"),
    ],
)
def test_an_index_json_that_is_wrong_is_one_clear_error(tmp_path: Path, spoil: Any, said: str) -> None:
    make_index(tmp_path)
    spoil(tmp_path / "index.json")
    with pytest.raises(RelookError) as error:
        Index(tmp_path)
    message = one_line(error)
    assert said in message
    assert str(tmp_path / "index.json") in message
    with pytest.raises(RelookError), IndexWriter(tmp_path):
        pass
    # The refused writer has let go of the lock, and has touched nothing.
    shutil.rmtree(tmp_path / "index.json", ignore_errors=True)
    (tmp_path / "index.json").unlink(missing_ok=True)
    assert len(list(tmp_path.glob("*/part-*"))) == 3
    with IndexWriter(tmp_path) as writer:
        assert writer.index is None


def test_no_index_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place, said in [("", "no index here"), ("nowhere", "no index here"), ("file", "cannot be read")]:
        with pytest.raises(RelookError, match=said) as error:
            Index(tmp_path / place)
        assert str(tmp_path / place) in one_line(error)
