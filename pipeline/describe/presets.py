"""The published set-ups by registry name: what each paper's code does to a picture, and what it computes from it.

Read by the registry beneath whatever the user sets; `configs/` writes the same values out. Sources: the official code
of CVNet (Lee et al., CVPR 2022), SuperGlobal (Shao et al., ICCV 2023), DELG (Cao et al., ECCV 2020) and the Reranking
Transformers (Tan et al., ICCV 2021). docs/papers.md lists where code and paper differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# float32 as the official configurations print them; a descriptor's scale is 1 / these.
DELG_SCALES = (0.25, 0.35355338, 0.5, 0.70710677, 1.0, 1.4142135, 2.0)

_CVNET_IMAGE = {
    "resize": "none",
    "interpolation": "opencv",
    "channels": "bgr",
    "mean": IMAGENET_MEAN,
    "std": IMAGENET_STD,
    "multiple": 1,
    "icc": "ignore",  # no published code reads colour profiles
}
_STAGE_3 = {"stage": 3, "pre_relu": True}

_CVNET: dict[str, Any] = {
    "image": _CVNET_IMAGE,
    "globals": {"p": "learned", "scales": (0.7071, 1.0, 1.4142)},
    "locals": {"count": 0, **_STAGE_3},
    "maps": {"levels": (0.25, 0.5, 1.0), **_STAGE_3, "projection": "checkpoint"},
}
_SUPERGLOBAL: dict[str, Any] = {
    "image": {**_CVNET_IMAGE, "scaling": "tensor", "antialias": False},
    "globals": {"p": "learned", "scales": (0.7071, 1.0, 1.4142)},
    "superglobal": {"gemp": True, "rgem": True, "sgem": True, "relup": True, "relup_inside": True},
    "locals": {"count": 0, **_STAGE_3},
}
_SOP: dict[str, Any] = {
    "image": {
        "size": 256,
        "resize": "exact",
        "crop": 224,
        "interpolation": "bilinear",
        "mean": IMAGENET_MEAN,
        "std": IMAGENET_STD,
        "multiple": 1,
        "icc": "ignore",
    },
    "globals": {"p": 1.0, "scales": (1.0,)},
    "locals": {"count": 49, "kind": "map", "stage": "final", "scales": (1.0,), "dimension": None},
}


def _delg(threshold: float) -> dict[str, Any]:
    return {
        "image": {
            "resize": "none",
            "max_side": 1024,
            "interpolation": "bilinear",
            "mean": (0.5, 0.5, 0.5),
            "std": (0.5, 0.5, 0.5),
            "multiple": 1,
            "icc": "ignore",
        },
        "globals": {"p": "learned", "scales": DELG_SCALES[3:6]},
        "locals": {
            "count": 1000,
            "kind": "attention",
            "stage": 3,
            "scales": DELG_SCALES,
            "threshold": threshold,
            "dimension": None,
        },
    }


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "cvnet_r50": _CVNET,
    "cvnet_r101": _CVNET,
    "superglobal_r50": _SUPERGLOBAL,
    "superglobal_r101": _SUPERGLOBAL,
    "delg_r50": _delg(175.0),
    "delg_r101": _delg(166.1),
    "sop_r50": _SOP,
}


class PublishedNetwork(NamedTuple):
    """What a published describer's network is: its family (heads, layout of files) and timm's name of its ResNet."""

    family: str
    architecture: str


NETWORKS: Mapping[str, PublishedNetwork] = {
    "cvnet_r50": PublishedNetwork("cvnet", "resnet50"),
    "cvnet_r101": PublishedNetwork("cvnet", "resnet101"),
    "superglobal_r50": PublishedNetwork("superglobal", "resnet50"),
    "superglobal_r101": PublishedNetwork("superglobal", "resnet101"),
    "delg_r50": PublishedNetwork("delg", "resnet50"),
    "delg_r101": PublishedNetwork("delg", "resnet101"),
    "sop_r50": PublishedNetwork("sop", "resnet50"),
}
