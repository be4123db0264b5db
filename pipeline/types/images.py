"""Images that exist, and the ground truth of a data set.

Made by the catalog, read by every later room.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class ImageRecord:
    """One image that exists.

    Attributes:
        id: unique in its catalog; the name of the image in every store.
        path: where its file lies, relative to the catalog's root (or absolute), with forward slashes.
        label: what it shows; "" for a distractor or an unlabelled image.
        split: the part of the data set it belongs to, "" when there is one part only.
        bbox: x0, y0, x1, y1 in pixels of the upright original: only this part is described. None: all of it.
        width, height: size in pixels of the upright original; 0 until it was read.
        size: bytes of the file; 0 until it was read.
        mtime_ns: modification time of the file in nanoseconds; 0 until it was read.
        sha256: of the file's bytes, hexadecimal; "" until it was read.
    """

    id: str
    path: str
    label: str = ""
    split: str = ""
    bbox: Box | None = None
    width: int = 0
    height: int = 0
    size: int = 0
    mtime_ns: int = 0
    sha256: str = ""

    @property
    def region(self) -> Box:
        """x0, y0, x1, y1 in pixels of the upright original: the part that is described; the size must be known."""
        left, top, right, bottom = self.bbox or (0.0, 0.0, float(self.width), float(self.height))
        return max(0.0, left), max(0.0, top), min(float(self.width), right), min(float(self.height), bottom)


@dataclass(frozen=True)
class GroundTruth:
    """The ground truth that a data set publishes for its queries; `pipeline.evaluate` scores rankings by it.

    Attributes:
        dataset: the registry name of the data set.
        protocol: the name of its authors' protocol in `pipeline.evaluate`.
        root: the folder that the queries' paths start from.
        queries: Q query images, ids unique among them, each cropped to its `bbox`. Those that the data set marks as
            ignored are left out. Empty: every labelled image of the gallery is a query.
        groups: for a name such as "easy", "hard", "junk" or "positive", Q sequences of ids of the gallery. The group
            "label" has labels instead, any of which is correct. No groups: positives have the query's label.
        ignored: how many queries of the published list are not here because it tells to ignore them.
    """

    dataset: str
    protocol: str
    root: Path
    queries: tuple[ImageRecord, ...] = ()
    groups: Mapping[str, Sequence[Sequence[str]]] = field(default_factory=dict)
    ignored: int = 0
