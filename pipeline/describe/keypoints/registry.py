"""Which extractor of keypoints a name stands for. A new one is a file in this folder and a line here.

The classes are named as text: kornia and the networks are imported when one of them is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

from pipeline.errors import RelookError, unknown_name
from pipeline.types import KeypointExtractor, KeypointsCard

# "MODULE:CLASS" by name; the class method `load(checkpoint, device, **options)` makes one.
KEYPOINTS: dict[str, str] = {
    "xfeat": "pipeline.describe.keypoints.xfeat:XFeatExtractor",
    "sift": "pipeline.describe.keypoints.sift:SIFTExtractor",
}


def load_keypoints(
    kind: str, checkpoint: str | Path | None = None, device: str = "cpu", **options: Any
) -> KeypointExtractor:
    """Build an extractor of keypoints.

    Args:
        kind: a key of `KEYPOINTS`.
        checkpoint: a local file of weights; None where they are installed with relook, or there are none.
        device: "cpu", "cuda" or another that torch knows.
        options: of the kind: size (pixels of the longer side), count (keypoints per picture) and further ones, as the
            `load` of its class has them.

    Raises:
        UsageError: the name or an option is unknown.
        RelookError: the weights are missing or of another network.
    """
    load = _loader(kind)
    known = [key for key in signature(load).parameters if key not in ("checkpoint", "device")]
    for key in options:
        if key not in known:
            raise unknown_name(f"option of keypoints {kind}", key, known)
    return load(None if checkpoint is None else Path(checkpoint), device, **options)


def extractor_for_card(
    card: KeypointsCard, checkpoint: str | Path | None = None, device: str = "cpu", **options: Any
) -> KeypointExtractor:
    """Build the extractor that a card describes, so that the keypoints of queries match those of a gallery.

    Args:
        card: of the gallery's keypoints.
        checkpoint, device: as in `load_keypoints`.
        options: those that are not on a card, such as accept_license.

    Raises:
        RelookError: what is built is not what is on the card, usually because the weights are other ones.
    """
    extractor = load_keypoints(card.kind, checkpoint, device, **card.settings, **options)
    if extractor.card.fingerprint != card.fingerprint:
        raise RelookError(
            f"keypoints of {card.kind}: the weights are {extractor.card.weights or 'none'}, those of the index "
            f"{card.weights or 'none'}; give the same checkpoint"
        )
    return extractor


def _loader(kind: str) -> Callable[..., KeypointExtractor]:
    if kind not in KEYPOINTS:
        raise unknown_name("keypoints", kind, KEYPOINTS)
    module, _, name = KEYPOINTS[kind].partition(":")
    load: Callable[..., KeypointExtractor] = getattr(import_module(module), name).load
    return load
