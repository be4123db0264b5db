"""`match`: do two photos show the same thing, and which points of them agree?

No index: keypoints of both photos, the matcher and the geometry of the reranker `matching`, and a verdict in words.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config import Config
from pipeline.describe.keypoints import load_keypoints
from pipeline.imaging import Pixels
from pipeline.rerank.matching.reranker import MatchingReranker
from pipeline.types import VerifiedMatches
from pipeline.workflow.keypoint_source import extractor_options
from pipeline.workflow.model_loading import choose_device, read_options, reranker_options

# Support of pairs of photos: of places, no wrong pair had 20 and one in a hundred 8 (docs/matching.md).
_SAME, _UNSURE = 20.0, 8.0
# Least mean confidence of the matches that agree. Letters of one typeface on two covers agree with one plane, but each
# could be matched with others as well, so that many doubtful matches add up.
_CONFIDENT = 0.45
# The verdict was measured with these. Where LightGlue stops earlier, as re-ranking has it stop, matches are less sure,
# and more of what is the same remains in doubt; of one pair the time does not matter.
_LATER_STOP = {"depth_confidence": 0.95, "width_confidence": 0.95}


@dataclass(frozen=True)
class MatchResult:
    """What two photos have in common.

    Attributes:
        first, second: the files.
        keypoints: how many each has.
        found: matches and geometry; `found.query_xy` are points of the first.
        verdict: see `verdict_of`.
        pictures: the pixels of both.
        seconds: of the run.
    """

    first: str
    second: str
    keypoints: tuple[int, int]
    found: VerifiedMatches
    verdict: str
    pictures: tuple[Pixels, Pixels]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Plain values, for `--json`."""
        return {
            "first": self.first,
            "second": self.second,
            "keypoints": list(self.keypoints),
            "verdict": self.verdict,
            **self.found.to_json(),
            "seconds": self.seconds,
        }


def match(config: Config, first: Path, second: Path) -> MatchResult:
    """Match two photos.

    Args:
        config: `rerank.matching` and `describe.keypoints` matter here.
        first, second: the files.

    Raises:
        ImageError: a photo cannot be read.
        RelookError: weights cannot be had.
    """
    started = time.monotonic()
    device = choose_device(config)
    reranker = MatchingReranker.load(device=device, **_options(config))
    extractor = load_keypoints(
        reranker.features,
        device=device,
        accept_license=config.accept_license,
        **extractor_options(config, reranker.features),
    )
    reranker.check_keypoints(extractor.card)
    reading = read_options(config)
    pictures = tuple(reading.read(path, str(path), icc="srgb").pixels for path in (first, second))
    left, right = extractor.extract([extractor.prepare(pixels) for pixels in pictures])
    found = reranker.match_images([(left, right)])[0]
    return MatchResult(
        first=str(first),
        second=str(second),
        keypoints=(len(left), len(right)),
        found=found,
        verdict=verdict_of(found),
        pictures=(pictures[0], pictures[1]),
        seconds=round(time.monotonic() - started, 2),
    )


def _options(config: Config) -> dict[str, Any]:
    """Those of the reranker; where the stop of LightGlue is not set, the later one."""
    options = reranker_options(config, "matching")
    later = _LATER_STOP if options["matcher"] == "lightglue" else {}
    return options | {key: value for key, value in later.items() if options[key] is None}


def verdict_of(found: VerifiedMatches) -> str:
    """ "same", "unsure" or "different", by the support and by the mean confidence of the matches that agree."""
    if found.support >= _SAME and found.support >= _CONFIDENT * found.inlier_count:
        return "same"
    return "unsure" if found.support >= _UNSURE else "different"
