"""Augmentation of a training photo: random crop, mirroring, colour changes.

Runs on the threads that read photos for `train-global`. It follows from a seed alone, so that a step can be repeated.
The crop is that of Inception's training (Szegedy et al., CVPR 2015), the colour noise along ImageNet's axes
AlexNet's (Krizhevsky et al., NeurIPS 2012), both as in DELG's training on GLDv2; jitter is torchvision's.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from PIL import Image
from torchvision.transforms import functional

from pipeline.config import AugmentConfig

Pixels = npt.NDArray[np.uint8]

# Standard deviations and axes of the colours of ImageNet's pixels, RGB in [0, 1].
_SPREAD = np.array([0.2175, 0.0188, 0.0045])
_AXES = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])
# Tries to place a crop of a drawn shape before the largest one that fits is taken.
_TRIES = 10


def augment(pixels: Pixels, settings: AugmentConfig, seed: int) -> Pixels:
    """A photo [H, W, 3] uint8 RGB to an augmented one [3, size, size] uint8 RGB."""
    rng = np.random.default_rng(seed)
    height, width = pixels.shape[:2]
    left, top, w, h = random_crop(width, height, settings, rng)
    box = (left, top, left + w, top + h)
    picture = Image.fromarray(pixels).resize((settings.size, settings.size), Image.Resampling.BICUBIC, box=box)
    if rng.random() < settings.flip:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if settings.jitter:
        for change in (functional.adjust_brightness, functional.adjust_contrast, functional.adjust_saturation):
            picture = change(picture, max(0.0, 1 + settings.jitter * rng.uniform(-1, 1)))
    if settings.hue:
        picture = functional.adjust_hue(picture, settings.hue * rng.uniform(-1, 1))
    result = np.asarray(picture)
    if settings.lighting:
        shift = 255 * _AXES @ (_SPREAD * rng.normal(0, settings.lighting, 3))
        result = np.clip(np.rint(result + shift), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(result.transpose(2, 0, 1))


def random_crop(
    width: int, height: int, settings: AugmentConfig, rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """A crop of a photo of this size: left, top, width, height in whole pixels, inside the photo."""
    low, high = (math.log(value) for value in settings.aspect)
    for _ in range(_TRIES):
        area = width * height * rng.uniform(*settings.area)
        aspect = math.exp(rng.uniform(low, high))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return int(rng.integers(0, width - w + 1)), int(rng.integers(0, height - h + 1)), w, h
    aspect = min(max(width / height, settings.aspect[0]), settings.aspect[1])
    w, h = min(width, max(1, round(height * aspect))), min(height, max(1, round(width / aspect)))
    return (width - w) // 2, (height - h) // 2, w, h
