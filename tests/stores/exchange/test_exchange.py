"""What all formats of the exchange share: the same models share an index, a failure leaves a whole one."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from cli_helpers import document, refused
from exchange_files import ames_file, bring, listed, refusal
from stores_helpers import unit_vectors

from pipeline.config import load_config
from pipeline.errors import RelookError, UsageError
from pipeline.stores import Index
from pipeline.workflow.model_loading import open_describer


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
