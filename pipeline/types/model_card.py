"""The model card: what made a set of descriptors, and the fingerprint of it.

Written by describers, kept in the index manifest, compared wherever descriptors meet.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

IMPORTED = "imported"  # the name on the card of descriptors that another program made


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

    def differences(self, other: ModelCard) -> list[str]:
        """One "key: mine here, theirs there" for every value that differs."""
        mine, theirs = _flatten(self.to_json()), _flatten(other.to_json())
        return [
            f"{key}: {mine.get(key)!r} here, {theirs.get(key)!r} there"
            for key in sorted(mine.keys() | theirs.keys())
            if mine.get(key) != theirs.get(key)
        ]


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
