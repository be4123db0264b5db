"""AMES's HDF5 files, in and out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from exchange_files import SCALES, ames_file, bring, refusal, vectors_of
from stores_helpers import make_index, unit_vectors

from pipeline.config import load_config
from pipeline.errors import RelookError
from pipeline.stages.export_descriptors import export_locals
from pipeline.stages.import_descriptors import Options
from pipeline.stores import Index


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
