"""Which extractor of keypoints a name stands for. A new one is a file in this folder and a line here.

The classes are named as text: kornia and the networks are imported when one of them is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
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
    "aliked": "pipeline.describe.keypoints.aliked:ALIKEDExtractor",
    "disk": "pipeline.describe.keypoints.disk:DISKExtractor",
    "dedode": "pipeline.describe.keypoints.dedode:DeDoDeExtractor",
    "keynet": "pipeline.describe.keypoints.keynet:KeyNetExtractor",
    "superpoint": "pipeline.describe.keypoints.superpoint:SuperPointExtractor",
    "picture": "pipeline.describe.keypoints.picture:PictureExtractor",
}

# Licences that have to be accepted by the name of the kind, and what they say.
_LICENCES = {"superpoint": "Magic Leap's licence, for non-commercial use only"}


def load_keypoints(
    kind: str,
    checkpoint: str | Path | None = None,
    device: str = "cpu",
    *,
    accept_license: Collection[str] = (),
    **options: Any,
) -> KeypointExtractor:
    """Build an extractor of keypoints.

    Args:
        kind: a key of `KEYPOINTS`.
        checkpoint: a local file of weights, a folder where there are several; None where they are installed with
            relook, or there are none.
        device: "cpu", "cuda" or another that torch knows.
        accept_license: names of the licences that the user accepts, such as "superpoint".
        options: of the kind: size (pixels of the longer side), count (keypoints per picture) and further ones, as the
            `load` of its class has them.

    Raises:
        UsageError: the name or an option is unknown.
        RelookError: the weights are missing or of another network, or under a licence that is not accepted.
    """
    load = _loader(kind)
    if kind in _LICENCES and kind not in accept_license:
        raise RelookError(f"keypoints of {kind} are under {_LICENCES[kind]}; accept it with --accept-license {kind}")
    known = [key for key in signature(load).parameters if key not in ("checkpoint", "device")]
    for key in options:
        if key not in known:
            raise unknown_name(f"option of keypoints {kind}", key, known)
    return load(None if checkpoint is None else Path(checkpoint), device, **options)


def extractor_for_card(
    card: KeypointsCard,
    checkpoint: str | Path | None = None,
    device: str = "cpu",
    *,
    accept_license: Collection[str] = (),
) -> KeypointExtractor:
    """Build the extractor that a card describes, so that the keypoints of queries match those of a gallery.

    Args:
        card: of the gallery's keypoints.
        checkpoint, device, accept_license: as in `load_keypoints`.

    Raises:
        RelookError: what is built is not what is on the card, usually because the weights are other ones.
    """
    extractor = load_keypoints(card.kind, checkpoint, device, accept_license=accept_license, **card.settings)
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
