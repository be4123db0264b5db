"""Which matcher of keypoints a name stands for. A new one is a file in this folder and a line here.

The classes are named as text: a network is imported when one of them is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

from pipeline.errors import RelookError, UsageError, unknown_name
from pipeline.types import PICTURE, Matcher

DEFAULT_FEATURES = "xfeat"


@dataclass(frozen=True)
class MatcherKind:
    """An entry of the registry.

    Attributes:
        made_by: "MODULE:CLASS"; its class method `load(features, checkpoint, device, **options)` makes a matcher.
        features: kinds of keypoints that it takes; None: all; "picture" alone: it is dense, and reads pixels.
        license: the name that `accept_license` must contain, and what it says; None where relook's own is enough.
    """

    made_by: str
    features: tuple[str, ...] | None = None
    license: tuple[str, str] | None = None

    def loader(self) -> Callable[..., Matcher]:
        """The function that makes one."""
        module, _, name = self.made_by.partition(":")
        load: Callable[..., Matcher] = getattr(import_module(module), name).load
        return load


MATCHERS: dict[str, MatcherKind] = {
    "mutual": MatcherKind("pipeline.rerank.matching.mutual:MutualMatcher"),
    "lightglue": MatcherKind(
        "pipeline.rerank.matching.lightglue:LightGlueMatcher",
        ("aliked", "dedode", "disk", "sift", "superpoint", "xfeat"),
    ),
    "superglue": MatcherKind(
        "pipeline.rerank.matching.superglue:SuperGlueMatcher",
        ("superpoint",),
        ("superpoint", "Magic Leap's licence, for academic or non-profit noncommercial research only"),
    ),
    "loftr": MatcherKind("pipeline.rerank.matching.loftr:LoFTRMatcher", (PICTURE,)),
    "eloftr": MatcherKind("pipeline.rerank.matching.eloftr:EfficientLoFTRMatcher", (PICTURE,)),
}


def features_for(matcher: str, stored: str | None) -> str:
    """The kind of keypoints that a matcher is given where none is set.

    Args:
        matcher: a key of `MATCHERS`.
        stored: the kind that an index keeps; None: it keeps none.
    """
    kind = MATCHERS.get(matcher)
    if kind is not None and kind.features == (PICTURE,):
        return PICTURE
    return stored or DEFAULT_FEATURES


def load_matcher(
    name: str,
    features: str,
    checkpoint: str | Path | None = None,
    device: str = "cpu",
    accept_license: Sequence[str] = (),
    **options: Any,
) -> Matcher:
    """Build a matcher.

    Args:
        name: a key of `MATCHERS`.
        features: the kind of keypoints that it will match, such as "xfeat".
        checkpoint: an official file of weights; None: the installed one, where there is one.
        device: "cpu", "cuda" or another that torch knows.
        accept_license: names of the licences that the user accepts, such as "superpoint".
        options: of the matcher, such as ratio=0.8 for mutual, depth_confidence=-1 for lightglue.

    Raises:
        UsageError: the name or an option is unknown, or the matcher does not take these keypoints.
        RelookError: the licence is not accepted; the checkpoint is missing or of another network.
    """
    if name not in MATCHERS:
        raise unknown_name("matcher", name, MATCHERS)
    kind = MATCHERS[name]
    if kind.features is not None and features not in kind.features:
        raise UsageError(f"matcher {name} takes keypoints of {' or '.join(kind.features)}, not of {features!r}")
    load = kind.loader()
    known = [key for key in signature(load).parameters if key not in ("features", "checkpoint", "device")]
    for key in options:
        if key not in known:
            raise unknown_name(f"option of matcher {name}", key, known)
    if kind.license is not None and kind.license[0] not in accept_license:
        accepted, terms = kind.license
        raise RelookError(f"{name} is under {terms}; accept it with --accept-license {accepted}")
    return load(features, checkpoint, device, **options)
