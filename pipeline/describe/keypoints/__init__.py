"""Keypoints and their descriptors, for rerankers that match images point by point.

One file per kind behind `base.py`; `registry.py` names them. `load_keypoints` is the way in.
"""

from pipeline.describe.keypoints.composition import keypoints_alone, with_keypoints
from pipeline.describe.keypoints.registry import KEYPOINTS, extractor_for_card, load_keypoints

__all__ = ["KEYPOINTS", "extractor_for_card", "keypoints_alone", "load_keypoints", "with_keypoints"]
