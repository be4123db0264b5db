"""Pictures to descriptors: backbones, pooling, local selection, and the `Describer` that joins them.

Between the catalog's photos and the index directory. `load_describer` is the way in; `describe_stream` runs a describer
over many photos while reading, computing and writing overlap. Importing this room loads no torch.
"""

from typing import TYPE_CHECKING, Any

from pipeline.describe.keypoints import extractor_for_card, keypoints_alone, load_keypoints, with_keypoints
from pipeline.describe.stream import (
    Described,
    Failed,
    Observed,
    ReadOptions,
    describe_few,
    describe_stream,
    observe_stream,
    prepare_stream,
)
from pipeline.describe.unfitted import UnfittedDescriber

if TYPE_CHECKING:
    from pipeline.describe.registry import describer_for_card, load_describer

__all__ = [
    "Described",
    "Failed",
    "Observed",
    "ReadOptions",
    "UnfittedDescriber",
    "describe_few",
    "describe_stream",
    "describer_for_card",
    "extractor_for_card",
    "keypoints_alone",
    "load_describer",
    "load_keypoints",
    "observe_stream",
    "prepare_stream",
    "with_keypoints",
]


def __getattr__(name: str) -> Any:
    """What needs torch, when it is first used."""
    if name in ("describer_for_card", "load_describer"):
        from pipeline.describe import registry

        return getattr(registry, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
