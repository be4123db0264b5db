"""The model card: what made a set of descriptors, and the fingerprint of it.

Written by describers, kept in the index manifest, compared wherever descriptors meet.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

IMPORTED = "imported"  # the name on the card of descriptors that another program made

# Settings that a card leaves out where they have these values: it is then the one of before there were such settings.
_LEFT_OUT: Mapping[str, Mapping[str, Any]] = {
    "image": {"icc": "ignore", "size_of": "box", "draft": None},
    "globals": {"kind": "gem", "whitening": "pca", "shrinkage": 0.3},
    "locals": {"detector": None, "descriptor": "detector", "places": "centre"},
}


@dataclass(frozen=True)
class ImageCard:
    """What a model card says of how pictures are read.

    Attributes:
        icc: "srgb" where colours are converted by the file's profile. Cards from before profiles were applied do not
            say it: "ignore".
        draft: JPEGs are decoded at reduced size, at least this factor times what the network reads; None: in full.
    """

    icc: Literal["srgb", "ignore"] = "ignore"
    draft: float | None = None


@dataclass(frozen=True)
class LocalsProjection:
    """AMES's projection of local descriptors at extraction.

    Attributes:
        kind: "ames" (values) or "ames_bits" (signs).
        weights: "sha256:..." of the projection; "" where the card does not say.
    """

    kind: str
    weights: str = ""


@dataclass(frozen=True)
class LocalsCard:
    """What a model card says of local descriptors.

    Attributes:
        kind: how they were chosen: "strongest", "attention", "detector", "class_token", "map" (a whole map, row by
            row), or "imported".
        stage: index of the backbone's stage, or "final".
        scales: of the image, at which they were extracted.
        stored: how many the index keeps of each image; None: all.
        geometry: whether `xy`, `scale` and `weight` are kept.
        projection: AMES's, applied at extraction; None: there was none.
        detector: "sha256:..." of AMES's detector; None: another kind chose them.
        descriptor: of kind detector, whose descriptors they are: "detector" or "backbone".
        places: what `xy` is of a cell: its "centre", or its "corner", the cell's number times the stride.
    """

    kind: str = "strongest"
    stage: int | str = "final"
    scales: tuple[float, ...] = (1.0,)
    stored: int | None = None
    geometry: bool = True
    projection: LocalsProjection | None = None
    detector: str | None = None
    descriptor: Literal["detector", "backbone"] = "detector"
    places: Literal["centre", "corner"] = "centre"

    @property
    def binary(self) -> bool:
        """Whether they are bits: values of +1 and -1."""
        return self.projection is not None and self.projection.kind == "ames_bits"


@dataclass(frozen=True)
class MapsCard:
    """What a model card says of feature maps.

    Attributes:
        levels: scales of the map; none: there are no maps.
        channels: of each level; None where the card does not say.
        projection: "checkpoint", "pca" or "none"; None where the card does not say.
        projected_by: "sha256:..." of the convolutions that projected them; None: none did.
    """

    levels: tuple[float, ...] = ()
    channels: int | None = None
    projection: str | None = None
    projected_by: str | None = None


@dataclass(frozen=True)
class ModelCard:
    """What made a set of descriptors: all that must be equal for two of them to be comparable.

    Attributes:
        name: the describer's registry name.
        architecture: the backbone's name.
        weights: "sha256:..." of the weights, or "random weights (seed 0)".
        settings: resolved preprocessing, pooling, scales and local selection; plain JSON values.
        fitted: "sha256:..." of the projections fitted on a gallery, "" where there are none.
        dimension: D of the global descriptors.
        local_dimension: d of the local descriptors, 0 where there are none.
    """

    name: str
    architecture: str
    weights: str
    settings: Mapping[str, Any]
    fitted: str
    dimension: int
    local_dimension: int

    @property
    def random(self) -> bool:
        """Whether the weights were never trained: whatever is printed of them has to say so."""
        return self.weights.startswith("random")

    @property
    def image(self) -> ImageCard:
        """The settings of reading pictures; defaults where the card has none."""
        given = self.settings.get("image") or {}
        return ImageCard("srgb" if given.get("icc") == "srgb" else "ignore", given.get("draft"))

    @property
    def locals(self) -> LocalsCard:
        """The settings of local descriptors; defaults where the card has none."""
        given = _known(LocalsCard, self.settings.get("locals"))
        if "scales" in given:
            given["scales"] = tuple(given["scales"])
        if given.get("projection") is not None:
            given["projection"] = LocalsProjection(**_known(LocalsProjection, given["projection"]))
        return LocalsCard(**given)

    @property
    def maps(self) -> MapsCard:
        """The settings of feature maps; defaults where the card has none."""
        given = _known(MapsCard, self.settings.get("maps"))
        return MapsCard(**{**given, "levels": tuple(given.get("levels") or ())})

    @property
    def complete_settings(self) -> dict[str, Any]:
        """The settings with those that the card leaves out, because they are as they were before they could be set."""
        filled = {section: {**absent, **(self.settings.get(section) or {})} for section, absent in _LEFT_OUT.items()}
        return {**self.settings, **filled}

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits; equal exactly when everything on the card is."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        """The card as plain JSON values; `from_json` is the inverse."""
        return {
            "name": self.name,
            "architecture": self.architecture,
            "weights": self.weights,
            "settings": dict(self.settings),
            "fitted": self.fitted,
            "dimension": self.dimension,
            "local_dimension": self.local_dimension,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ModelCard:
        """Raises KeyError or TypeError when `values` is no card."""
        return cls(**{key: values[key] for key in cls.__dataclass_fields__})

    def changed(self, section: str, without: Collection[str] = (), **values: Any) -> ModelCard:
        """The card with other `values` in a section of its settings, such as "locals", `without` some of its keys."""
        kept = {key: value for key, value in (self.settings.get(section) or {}).items() if key not in without}
        return replace(self, settings={**self.settings, section: {**kept, **values}})

    def differences(self, other: ModelCard) -> list[str]:
        """One "key: mine here, theirs there" for every value that differs."""
        mine, theirs = _flatten(self.to_json()), _flatten(other.to_json())
        return [
            f"{key}: {mine.get(key)!r} here, {theirs.get(key)!r} there"
            for key in sorted(mine.keys() | theirs.keys())
            if mine.get(key) != theirs.get(key)
        ]


def shortened(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as a card has them; `ModelCard.complete_settings` is the inverse."""
    return {
        section: {key: value for key, value in values.items() if not _is_left_out(section, key, value)}
        if isinstance(values, Mapping)
        else values
        for section, values in settings.items()
    }


def _is_left_out(section: str, key: str, value: Any) -> bool:
    absent = _LEFT_OUT.get(section, {})
    return key in absent and absent[key] == value


def _known(part: type, values: Any) -> dict[str, Any]:
    """Those of the values that a typed part has a field for."""
    fields = part.__dataclass_fields__  # type: ignore[attr-defined]
    return {key: value for key, value in (values or {}).items() if key in fields}


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
