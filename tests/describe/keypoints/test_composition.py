"""A describer with keypoints goes through the streams as the describer alone does, and its other descriptors stay."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from photos import make_photo

from pipeline.describe import (
    Described,
    Observed,
    ReadOptions,
    describe_few,
    describe_stream,
    keypoints_alone,
    load_describer,
    load_keypoints,
    observe_stream,
    with_keypoints,
)
from pipeline.errors import RelookError, UsageError
from pipeline.types import FittableDescriber, ImageRecord, KeypointExtractor, Keypoints

READING = ReadOptions(batch_size=2, workers=2, models=2, max_pixels=10**7, max_bytes=10**8)
SIZES = [(96, 80), (96, 80), (80, 96), (120, 40), (96, 80)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for number, size in enumerate(SIZES):
        make_photo(folder / f"{number}.png", size, number)
    return folder


@pytest.fixture(scope="module")
def extractor() -> KeypointExtractor:
    return load_keypoints("sift", size=192, count=50, threshold=0.01)


def records() -> list[ImageRecord]:
    return [ImageRecord(id=str(number), path=f"{number}.png") for number in range(len(SIZES))]


def describer(dimension: int | None = None) -> FittableDescriber:
    return load_describer(
        "efficientnet_lite0",
        weights="random",
        image={"size": 64},
        globals={"scales": (1.0,)},
        locals={"count": 4, "dimension": dimension, "scales": (1.0,)},
    )


def equal(one: Keypoints | None, other: Keypoints) -> bool:
    assert one is not None
    return np.array_equal(one.xy, other.xy) and np.array_equal(one.descriptors, other.descriptors)


def test_the_streams_give_keypoints_as_well(folder: Path, extractor: KeypointExtractor) -> None:
    alone = describer()
    both = with_keypoints(alone, extractor)
    assert both.card == alone.card
    assert both.to_fit == ()
    want = {item.record.id: item for item in describe_few(alone, records(), lambda r: folder / r.path, READING)}
    points = keypoints_alone(extractor, alone.card)
    for stream in (describe_few, describe_stream):
        found = list(stream(both, records(), lambda r: folder / r.path, READING))
        assert [item.record.id for item in found] == list(want)
        only = {item.record.id: item for item in stream(points, records(), lambda r: folder / r.path, READING)}
        for item in found:
            known, single = want[item.record.id], only[item.record.id]
            assert isinstance(item, Described)
            assert isinstance(known, Described)
            assert isinstance(single, Described)
            np.testing.assert_allclose(item.description.vector, known.description.vector, atol=1e-6)
            assert known.description.keypoints is None
            assert item.description.keypoints is not None
            assert len(item.description.keypoints) > 0
            assert equal(single.description.keypoints, item.description.keypoints)
            assert len(single.description.vector) == 0
            assert single.record == item.record


def test_projections_are_fitted_through_it(folder: Path, extractor: KeypointExtractor) -> None:
    both, alone = with_keypoints(describer(3), extractor), describer(3)
    assert both.to_fit == ("locals",)
    batches = list(observe_stream(both, records(), lambda r: folder / r.path, READING))
    outputs = [batch.output.on_cpu() for batch in batches if isinstance(batch, Observed)]
    assert all(output.bytes > output.network.bytes for output in outputs)
    both.fit_on(outputs)
    assert both.to_fit == ()
    alone.use_fitted(both.fitted())
    assert alone.card == both.card
    described = [one for output in outputs for one in both.describe_output(output)]
    assert all(one.keypoints is not None and one.locals is not None for one in described)
    assert len(described) == len(SIZES)


def test_pictures_of_another_describer_are_refused(extractor: KeypointExtractor) -> None:
    alone = describer()
    picture = np.zeros((64, 64, 3), np.uint8)
    with pytest.raises(RelookError, match="prepared by another describer"):
        with_keypoints(alone, extractor).describe([alone.prepare(picture)])


def test_keypoints_are_no_option_of_a_describer() -> None:
    with pytest.raises(UsageError, match="load_keypoints"):
        load_describer("efficientnet_lite0", keypoints={"kind": "xfeat"})
