"""Keypoints that tests make up."""

from __future__ import annotations

import numpy as np

from pipeline.types import Keypoints


def keypoints_of(
    xy: np.ndarray,
    descriptors: np.ndarray,
    size: tuple[float, float],
    score: np.ndarray | None = None,
    scale: np.ndarray | None = None,
    orientation: np.ndarray | None = None,
) -> Keypoints:
    """Keypoints of a whole image of `size` (width, height); what is not given is 1 (score) or 0."""
    count = len(xy)
    return Keypoints(
        xy.astype(np.float32),
        descriptors.astype(np.float32),
        np.ones(count, np.float32) if score is None else score.astype(np.float32),
        np.zeros(count, np.float32) if scale is None else scale.astype(np.float32),
        np.zeros(count, np.float32) if orientation is None else orientation.astype(np.float32),
        (0.0, 0.0, float(size[0]), float(size[1])),
    )


def random_keypoints(seed: int, count: int, width: int, like: Keypoints | None = None) -> Keypoints:
    """Random keypoints of an image of 320 x 240 pixels; `like` others: theirs, with noise."""
    rng = np.random.default_rng(seed)
    xy = rng.uniform(0, 240, (count, 2))
    descriptors = rng.normal(size=(count, width))
    if like is not None:
        shared = min(count, len(like))
        descriptors[:shared] = like.descriptors[:shared] * np.sqrt(width) + 0.3 * rng.normal(size=(shared, width))
        xy[:shared] = like.xy[:shared] + rng.normal(size=(shared, 2))
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    scores = np.sort(rng.uniform(0.1, 1, count))[::-1]
    return keypoints_of(xy, descriptors, (320, 240), scores, rng.uniform(2, 9, count), rng.uniform(-3, 3, count))
