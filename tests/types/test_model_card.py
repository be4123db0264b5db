"""Model cards: typed parts read what the settings say, and JSON and fingerprints are those of every older index."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.describe import load_describer
from pipeline.types import LocalsCard, LocalsProjection, MapsCard, ModelCard

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)

# The card of the default describer as version 0.1.0 wrote it, and its fingerprint.
OLDER = """
{"name": "efficientnet_lite0", "architecture": "tf_efficientnet_lite0", "weights":
"sha256:153bf98ba91b079cc608abb4abe024d429991d5c8bd59ff1bdc6cfc077363a4f", "settings": {"precision": "float32",
"image": {"size": 320, "resize": "area", "max_side": null, "multiple": 32, "crop": null, "interpolation": "bicubic",
"scaling": "picture", "antialias": true, "channels": "rgb", "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
"globals": {"p": 1.0, "scales": [0.7071, 1.0, 1.4142], "whiten": null}, "superglobal": null, "locals": {"count": 50,
"stored": null, "kind": "strongest", "stage": "final", "pre_relu": false, "scales": [0.7071, 1.0, 1.4142], "threshold":
0.0, "dimension": null, "projection": null, "geometry": true}, "maps": {"levels": [], "stage": "final", "pre_relu":
false, "projection": "pca", "dimension": 256, "channels": 0, "projected_by": null}}, "fitted": "", "dimension": 1280,
"local_dimension": 1280}
"""
OLDER_FINGERPRINT = "de3558f68ef9d87d"


def card(settings: dict[str, Any]) -> ModelCard:
    return ModelCard("test", "none", "random weights (seed 0)", settings, "", 8, 4)


@given(st.dictionaries(st.text(max_size=8).filter(lambda key: key not in ("locals", "maps")), VALUES, max_size=4))
def test_json_is_what_was_given(settings: dict[str, Any]) -> None:
    made = card(settings)
    assert made.to_json()["settings"] == settings
    again = ModelCard.from_json(json.loads(json.dumps(made.to_json())))
    assert again.fingerprint == made.fingerprint
    assert (made.locals, made.maps) == (LocalsCard(), MapsCard())


def test_an_older_card_keeps_its_fingerprint() -> None:
    assert ModelCard.from_json(json.loads(OLDER)).fingerprint == OLDER_FINGERPRINT


@pytest.mark.parametrize(
    ("name", "fingerprint"),
    [
        ("cvnet_r50", "de399ad7a72f9873"),
        ("superglobal_r50", "726c7023a841e272"),
        ("delg_r50", "cd98d1f8ea99fde8"),
        ("sop_r50", "0c068df0f31bbeaf"),
    ],
)
def test_published_describers_keep_their_fingerprints(name: str, fingerprint: str) -> None:
    assert load_describer(name, weights="random").card.fingerprint == fingerprint


def test_the_typed_parts() -> None:
    projection = {"kind": "ames_bits", "weights": "sha256:1"}
    local = {"kind": "map", "stage": 3, "scales": [0.7071, 1.0], "stored": 50, "geometry": False, "count": 600}
    made = card(
        {
            "locals": {**local, "projection": projection},
            "maps": {"levels": [0.25, 1.0], "channels": 256, "projection": "checkpoint", "projected_by": "sha256:2"},
        }
    )
    expected = LocalsCard("map", 3, (0.7071, 1.0), 50, False, LocalsProjection("ames_bits", "sha256:1"))
    assert made.locals == expected
    assert made.locals.binary
    assert made.maps == MapsCard((0.25, 1.0), 256, "checkpoint", "sha256:2")
    assert not card({"locals": {**local, "projection": {**projection, "kind": "ames"}}}).locals.binary
    assert not card({"locals": None, "maps": None}).maps.levels
