"""AMES's locals from a photo: the configurations of the authors' two backbones give the rows of their files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from parity_ledger import folders
from photos import ROOT

from pipeline.config import load_config
from pipeline.describe import load_describer
from pipeline.describe.backbones import Tap
from pipeline.describe.describer import NetworkDescriber
from pipeline.describe.registry import resolved
from pipeline.stores.exchange.ames import OfficialPlaces, rows_of
from pipeline.types import Description

GLOBALS = 2e-6
DESCRIPTORS = 2e-6
# As accurate as the map that the weights come from: float32's convolutions differ between CPUs.
WEIGHTS = {"atol": 1e-5, "rtol": 1e-5}
FOLDERS = folders("ames_extract*")
pytestmark = pytest.mark.skipif(
    FOLDERS == ["ames_extract*"],
    reason="the extraction's numbers hold photos: they lie in ../shared/parity_family alone",
)
# By the letter in the authors' names, such as dinov2_vitb14_reg.
SIZES = {"s": "small", "b": "base", "l": "large", "g": "giant"}


class Extraction:
    """A folder of official numbers, and describers of its checkpoints as the published configuration has them."""

    def __init__(self, official: Any, backbone: Path, detector: Path) -> None:
        self.official, self._backbone = official, backbone
        self.transformer = official.config["patch_size"] is not None
        name = official.config["backbone"]
        file = "ames_dinov2_eccv2024" if self.transformer else "ames_cvnet_r101_eccv2024"
        settings = load_config(ROOT / "configs" / f"{file}.yaml").describe
        self._settings = settings.model_dump(exclude_unset=True, exclude={"name", "checkpoint"})
        self._settings["locals"]["detector"] = detector
        for section in ("globals", "locals"):
            self._settings[section]["scales"] = tuple(official.config["scales"])
        kind = "reg4_dinov2" if name.endswith("_reg") else "dinov2"
        self._name = f"vit_{SIZES[name[10]]}_patch14_{kind}" if self.transformer else name
        self._first: NetworkDescriber | None = None

    def describer(self, count: int, **changes: dict[str, Any]) -> NetworkDescriber:
        """A describer of `count` locals with `changes` by section; the network is loaded once."""
        options = dict(self._settings)
        for section, values in {**changes, "locals": {"count": count, **changes.get("locals", {})}}.items():
            options[section] = {**options[section], **values}
        if self._first is None:
            made = load_describer(self._name, self._backbone, **options)
            assert isinstance(made, NetworkDescriber)
            self._first = made
            return made
        config = resolved(self._name, self._backbone, options)
        return NetworkDescriber(self._first.network, config, torch.device("cpu"))

    def describe(self, describer: NetworkDescriber, case: str) -> list[Description]:
        """The photos of a case, queries cut to their boxes."""
        photos = [describer.prepare(self.official.picture(name), box) for name, box in self.photos(case)]
        return [describer.describe([photo])[0] for photo in photos]

    def photos(self, case: str) -> list[tuple[str, Any]]:
        """Names and boxes of a case."""
        config = self.official.config
        if case.endswith("query"):
            return [(name, tuple(box)) for name, box in zip(config["query"], config["bbx"], strict=True)]
        names = [config["small"]] if case in ("padded", "imsize") else config["gallery"]
        return [(name, None) for name in names]

    def rows(self, case: str, found: list[Description]) -> np.ndarray:
        """The rows of the authors' file, of all photos."""
        count = self.official.outputs[f"{case}_rows"].shape[1]
        rows = []
        for (name, box), description in zip(self.photos(case), found, strict=True):
            height, width = self.official.picture(name).shape[:2]
            places = OfficialPlaces(width, height, box, fractions=self.transformer)
            rows.append(rows_of(description.locals, count, self.official.config["scales"], places))
        return np.array(rows)

    def agrees(self, case: str, found: list[Description], raw: bool = False) -> None:
        """Rows and descriptors are the official ones; where `raw`, descriptors as long as their weights."""
        official, rows = self.official, self.rows(case, found)
        columns, descriptors = rows[..., :5], rows[..., 5:]
        marked = f"{case}_ambiguous"
        # Weights have a tolerance of their own.
        expected = official.outputs[f"{case}_rows"]
        np.testing.assert_allclose(columns[..., 4], expected[..., 4], **WEIGHTS, err_msg=f"{case}: weights")
        columns = np.concatenate([columns[..., :4], expected[..., 4:]], axis=-1)
        official.agrees_as_sets(f"{case}_rows", columns, marked, atol=1e-5 if self.transformer else 1e-4)
        count = official.outputs[f"{case}_descriptors"].shape[1]
        descriptors = descriptors * rows[..., 4:5] if raw else descriptors
        free = official.outputs[marked].astype(bool)
        descriptors, tolerance = (
            self._matched(case, columns, descriptors, free)[:, :count],
            1e-3 if raw else DESCRIPTORS,
        )
        official.agrees(f"{case}_descriptors", descriptors, atol=tolerance)

    def _matched(self, case: str, columns: np.ndarray, descriptors: np.ndarray, free: np.ndarray) -> np.ndarray:
        """Descriptors in the official order: marked rows by their places, the others as they stand."""
        expected, ordered = self.official.outputs[f"{case}_rows"], descriptors.copy()
        for image, row in zip(*np.nonzero(free), strict=True):
            distance = np.abs(columns[image, :, :4] - expected[image, row, :4]).sum(axis=-1)
            ordered[image, row] = descriptors[image, distance.argmin()]
        return ordered


@pytest.fixture(scope="module", params=FOLDERS)
def extraction(
    request: pytest.FixtureRequest, official_folder: Callable[[str], Any], official_file: Callable[..., Path]
) -> Extraction:
    official = official_folder(request.param)
    wrapper = None if official.config["patch_size"] else "model_state"
    detector = official_file(official, "state", manifest="manifest_detector.json", multiply={})
    return Extraction(official, official_file(official, wrapper), detector)


@torch.inference_mode()
def test_the_detector(extraction: Extraction) -> None:
    official = extraction.official
    detector = extraction.describer(official.config["topk"]).detector
    assert detector is not None
    features, weights = detector(torch.from_numpy(official.inputs["map"]))
    official.agrees("map_features", features, atol=DESCRIPTORS)
    official.agrees("map_weights", weights.unsqueeze(1), **WEIGHTS)


def test_photos_and_boxes(extraction: Extraction) -> None:
    official = extraction.official
    describer = extraction.describer(official.config["topk"])
    for case in ("gallery", "query"):
        found = extraction.describe(describer, case)
        extraction.agrees(case, found)
        check_globals(extraction, case, found)


def test_fewer_cells_than_rows(extraction: Extraction) -> None:
    found = extraction.describe(extraction.describer(extraction.official.config["topk_pad"]), "padded")
    extraction.agrees("padded", found)
    check_globals(extraction, "padded", found)


def test_without_a_detector(extraction: Extraction) -> None:
    """The authors' script then takes the strongest cells, whose descriptors keep their length: their weight."""
    by_norm = {"kind": "strongest", "detector": None}
    found = extraction.describe(extraction.describer(extraction.official.config["topk_norm"], locals=by_norm), "norm")
    extraction.agrees("norm", found, raw=True)
    check_globals(extraction, "norm", found, locals=by_norm)


def test_photos_of_one_size(extraction: Extraction) -> None:
    """The longer side of the photo, not of the box, has the size of the setting."""
    config = extraction.official.config
    if "dino_imsize" not in config:
        assert not extraction.official.matching("imsize")
        return
    image = {"resize": "long", "size": config["dino_imsize"], "size_of": "photo"}
    describer = extraction.describer(config["topk"], image=image)
    for case in ("imsize", "imsize_query"):
        found = extraction.describe(describer, case)
        extraction.agrees(case, found)
        check_globals(extraction, case, found, image=image)


@torch.inference_mode()
def test_what_the_network_reads_and_gives(extraction: Extraction) -> None:
    official = extraction.official
    name = official.config["small"]
    describer = extraction.describer(official.config["topk"])
    prepared = describer.prepare(official.picture(name))
    images = [describer.input.normalised([prepared], number) for number in range(len(prepared.scales))]
    official.equals(f"input_shapes_{name}", [image.shape for image in images])
    factors = [(1 / sx, 1 / sy) for sx, sy, _, _ in prepared.to_original]
    official.agrees(f"scales_{name}", factors, atol=1e-8)
    backbone = describer.network.backbone
    if extraction.transformer:
        official.agrees(f"input_corner_{name}", images[0][:, :, :6, :6], atol=1e-6)
        final, _, token = backbone.with_class_token(images[0])
        count = official.outputs[f"patch_tokens_{name}"].shape[1]
        official.agrees(f"patch_tokens_{name}", final.flatten(2).transpose(1, 2)[:, :count], atol=2e-5)
        official.agrees(f"cls_token_{name}", token, atol=2e-5)
    else:
        official.agrees(f"map_s3_{name}", backbone(images[0], [Tap(3, True)])[1][0], atol=2e-5)


def check_globals(extraction: Extraction, case: str, found: list[Description], **changes: dict[str, Any]) -> None:
    """Of CVNet the pooled map; of a transformer the class token, and the cells' mean by weight."""
    official = extraction.official
    if not extraction.transformer:
        official.agrees(f"{case}_global", [description.vector for description in found], atol=GLOBALS)
        return
    for kind, name in (("class_token", "cls"), ("locals", "global")):
        describer = extraction.describer(1, globals={"kind": kind}, **changes)
        vectors = [description.vector for description in extraction.describe(describer, case)]
        official.agrees(f"{case}_{name}", vectors, atol=GLOBALS)
