"""`INDEX/rerankers/fusion.json`: how the scores of a chain are fused, as `relook calibrate` found it.

Written atomically; read by every search and evaluation with the same chain (`application.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import RelookError
from pipeline.files import write_bytes, write_errors
from pipeline.rerank.calibration import Calibration

_FORMAT = 1


@dataclass(frozen=True)
class StepFusion:
    """What was found for one link of the chain.

    Attributes:
        name: of the reranker.
        settings: of the reranker when it was measured, with a checksum of its checkpoint.
        weight, margin, incoming, own: see `RerankStep`.
        pairs: labelled pairs that the calibrations were fitted on.
    """

    name: str
    settings: Mapping[str, Any]
    weight: float
    margin: float | None
    incoming: Calibration | None
    own: Calibration | None
    pairs: int

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "name": self.name,
            "settings": dict(self.settings),
            "weight": self.weight,
            "margin": self.margin,
            "incoming": None if self.incoming is None else self.incoming.to_json(),
            "own": None if self.own is None else self.own.to_json(),
            "pairs": self.pairs,
        }


@dataclass(frozen=True)
class Fusion:
    """The links of a chain, and the fingerprint of the model whose descriptors were scored."""

    fingerprint: str
    steps: tuple[StepFusion, ...]

    @property
    def chain(self) -> tuple[str, ...]:
        """The names of the rerankers, in order."""
        return tuple(step.name for step in self.steps)


def fusion_path(index: Path) -> Path:
    """Where the file of an index lies."""
    return index / "rerankers" / "fusion.json"


def write_fusion(index: Path, fusion: Fusion) -> None:
    """Replace the file of an index in one step. Raises RelookError when it cannot be written."""
    path = fusion_path(index)
    steps = [step.to_json() for step in fusion.steps]
    values = {"format": _FORMAT, "chain": fusion.chain, "fingerprint": fusion.fingerprint, "steps": steps}
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, (json.dumps(values, indent=1) + "\n").encode())


def read_fusion(index: Path) -> Fusion | None:
    """The fusion of an index; None where it has none. Raises RelookError for a damaged file."""
    path = fusion_path(index)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["format"] != _FORMAT:
            raise ValueError(f"format {values['format']!r}")
        return Fusion(str(values["fingerprint"]), tuple(_step(step) for step in values["steps"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        remedy = "run: relook calibrate, or: relook calibrate --remove"
        raise RelookError(f"{path}: cannot be read ({type(error).__name__}: {error}); {remedy}") from None


def remove_fusion(index: Path) -> bool:
    """Remove the file of an index; whether there was one. Raises RelookError when it cannot be removed."""
    path = fusion_path(index)
    with write_errors(path):
        try:
            path.unlink()
        except FileNotFoundError:
            return False
    return True


def _step(values: Mapping[str, Any]) -> StepFusion:
    weight, margin = float(values["weight"]), values["margin"]
    if not 0 <= weight <= 1 or (margin is not None and not float(margin) >= 0):
        raise ValueError(f"weight {weight}, margin {margin}")
    return StepFusion(
        str(values["name"]),
        dict(values["settings"]),
        weight,
        None if margin is None else float(margin),
        _calibration(values["incoming"]),
        _calibration(values["own"]),
        int(values["pairs"]),
    )


def _calibration(values: Mapping[str, Any] | None) -> Calibration | None:
    return None if values is None else Calibration.from_json(values)
