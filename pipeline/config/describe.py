"""The `describe` section: what turns pictures into descriptors.

Read by the room of that name, whose `presets.py` holds the published set-ups. What is set here is on the model card.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from pipeline.settings import Positive, PositiveFloat, Precision, Section


class ImageConfig(Section):
    """How an image becomes the network's input. null: what the backbone was trained with."""

    size: Positive = Field(320, description="pixels, the target of the resize rule")
    size_of: Literal["box", "photo"] = Field(
        "box", description="whose longer side long brings to size: that of a query's box, or of its photo (AMES)"
    )
    resize: Literal["area", "short", "long", "exact", "none"] = Field(
        "area",
        description="area: size^2 pixels, aspect kept; short/long: that side; exact: a square; none: not resized",
    )
    max_side: Positive | None = Field(
        None, description="images with a longer side are resized to it, whatever the rule; null: no limit"
    )
    multiple: Positive | None = Field(
        None, description="sides are rounded to multiples of this; null: the backbone's stride or patch"
    )
    crop: Positive | None = Field(None, description="side of the central square crop after resizing; null: no crop")
    interpolation: Literal["bilinear", "bicubic", "lanczos", "box", "opencv"] = Field(
        "bicubic",
        description="Pillow's, antialiased; opencv: cv2.resize by a factor, area to shrink and bilinear to enlarge",
    )
    scaling: Literal["picture", "tensor"] = Field(
        "picture", description="what further scales resize: the image (picture) or the normalised tensor (SuperGlobal)"
    )
    antialias: bool = Field(
        True, description="antialiased resizing where scaling = tensor; torchvision before 0.17 had none"
    )
    channels: Literal["rgb", "bgr"] = Field("rgb", description="channel order of the network")
    mean: tuple[float, float, float] | None = Field(None, description="per RGB channel, of values in [0, 1]")
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None = Field(
        None, description="per RGB channel, of values in [0, 1]"
    )
    icc: Literal["srgb", "ignore"] = Field(
        "srgb", description="srgb: colours are converted by the file's profile; ignore: taken as they are"
    )
    draft: Annotated[float, Field(ge=1)] | None = Field(
        None,
        description="JPEGs are decoded at 1/2, 1/4 or 1/8 of their sides where that leaves at least this factor times "
        "the sides that the largest scale reads; null: in full",
    )
    max_pixels: Positive = Field(200_000_000, description="larger images are refused before they are decoded")
    max_bytes: Positive = Field(500_000_000, description="larger files are refused before they are read")

    @model_validator(mode="after")
    def _opencv_resizes_by_a_factor(self) -> Self:
        if self.interpolation == "opencv" and self.resize not in ("none", "long"):
            raise ValueError(
                f"interpolation = opencv resizes by a factor: it needs resize = none or long, not {self.resize}"
            )
        if self.draft is not None and (self.interpolation == "opencv" or self.max_side is not None):
            raise ValueError("draft: needs one of Pillow's interpolations, and max_side = null")
        if self.size_of == "photo" and self.interpolation != "opencv":
            raise ValueError(f"size_of = photo: needs interpolation = opencv, not {self.interpolation}")
        return self


class GlobalsConfig(Section):
    """The global descriptor of an image."""

    kind: Literal["gem", "class_token", "locals", "weighted_map"] = Field(
        "gem",
        description="gem: the pooled last map; class_token: a transformer's; locals: cells of the local descriptors' "
        "map, each times its weight, averaged (AMES); weighted_map: the same of the network's own map (ELViS)",
    )
    p: PositiveFloat | Literal["learned"] = Field(
        1.0, description="exponent of GeM: 1 is the average; learned: the checkpoint's pool.p"
    )
    scales: tuple[PositiveFloat, ...] = Field(
        (0.7071, 1.0, 1.4142), min_length=1, description="the descriptors at these scales are averaged"
    )
    whiten: Positive | None = Field(
        None, description="dimensions of a PCA-whitening that is fitted on the gallery; null: none"
    )
    whitening: Literal["pca", "pairs"] = Field(
        "pca",
        description="what it is fitted on: pca: images without labels; pairs: matching pairs, images of one label",
    )
    shrinkage: Annotated[float, Field(gt=0, le=1)] = Field(
        0.3, description="whitening = pairs: how much of the pairs' covariance is replaced by the identity"
    )


class SuperGlobalModulesConfig(Section):
    """SuperGlobal's pooling (Shao et al., ICCV 2023, section 3.2) in place of plain GeM."""

    gemp: bool = Field(True, description="GeM+: exponent 4.6 instead of the checkpoint's")
    rgem: bool = Field(True, description="Regional-GeM before pooling")
    sgem: bool = Field(True, description="Scale-GeM: the maximum over scales instead of the mean")
    relup: bool = Field(True, description="ReLUP: ReLUs after blocks cut at 0.014 instead of 0")
    relup_inside: bool = Field(
        True, description="ReLUP inside stage 1 too; the official code does so even when relup is off"
    )


class LocalsConfig(Section):
    """The local descriptors of an image, for rerankers that compare part by part.

    They have unit length, except those of a whole map: there a cell's length is part of the map, and a PCA is fitted on
    the cells as they are and leaves them as long as they come out.
    """

    count: Annotated[int, Field(ge=0)] = Field(50, description="local descriptors per image; 0: none")
    stored: Positive | None = Field(
        None, description="how many of them the index stores; null: all. Queries always use all (AMES: 600 and 50)"
    )
    kind: Literal["strongest", "attention", "map", "detector", "class_token"] = Field(
        "strongest",
        description="strongest: cells of the largest norm; attention: of the largest attention; map: the whole map; "
        "detector: of the largest weight that AMES's detector gives; class_token: of the largest cosine to it (ELViS)",
    )
    detector: Path | None = Field(
        None, description="a checkpoint of AMES's detector (kind: detector); null: that of the index or of fit_from"
    )
    descriptor: Literal["detector", "backbone"] = Field(
        "detector",
        description="whose unit descriptor a cell has where kind = detector (AMES: detector, ELViS: backbone)",
    )
    places: Literal["centre", "corner"] = Field(
        "centre", description="where a cell lies: its centre, or its number times the stride (AMES's code for CVNet)"
    )
    stage: int | Literal["final"] = Field("final", description="index of the backbone's stage, or its last map")
    pre_relu: bool = Field(False, description="the stage's map before its last ReLU (ResNets)")
    scales: tuple[PositiveFloat, ...] = Field((0.7071, 1.0, 1.4142), min_length=1)
    threshold: Annotated[float, Field(ge=0)] = Field(0.0, description="weaker ones are dropped (kind: attention)")
    dimension: Positive | None = Field(
        128, description="reduced to this by a PCA fitted on the gallery; null: not reduced"
    )
    projection: Path | None = Field(
        None,
        description="an AMES checkpoint whose projection (128 values or bits) is applied at extraction; null: none",
    )
    geometry: bool = Field(True, description="store position, scale and weight beside each descriptor (16 bytes)")

    @model_validator(mode="after")
    def _only_a_detector_reads_its_settings(self) -> Self:
        if self.kind != "detector" and (self.detector is not None or self.descriptor == "backbone"):
            given = "detector" if self.detector is not None else "descriptor = backbone"
            raise ValueError(f"{given}: belongs to kind = detector, not {self.kind}")
        return self


class MapsConfig(Section):
    """Feature maps of an image, for the reranker cvnet."""

    levels: tuple[PositiveFloat, ...] = Field(
        (), description="scales of the map, such as 0.25, 0.5, 1; []: no maps are stored"
    )
    stage: int | Literal["final"] = Field("final", description="index of the backbone's stage, or its last map")
    pre_relu: bool = Field(False, description="the stage's map before its last ReLU (ResNets)")
    projection: Literal["checkpoint", "pca", "none"] = Field(
        "pca", description="to fewer channels: by the checkpoint's conv2ds (CVNet), by a fitted PCA, or none"
    )
    dimension: Positive = Field(256, description="channels after the PCA")


class KeypointsConfig(Section):
    """Keypoints of an image, for the reranker matching. No part of the model: they change alone."""

    kind: Literal["xfeat", "sift", "aliked", "disk", "dedode", "keynet", "superpoint"] | None = Field(
        None, description="what finds them (docs/matching.md); null: none are stored"
    )
    checkpoint: Path | None = Field(
        None, description="a local file of weights; null: packaged ones (xfeat), or none (sift)"
    )
    size: Positive | None = Field(
        None, description="pixels of the longer side that the detector reads; null: the kind's own"
    )
    count: Positive | None = Field(None, description="keypoints per image, at most; null: the kind's own")
    threshold: Annotated[float, Field(ge=0)] | None = Field(
        None, description="weaker keypoints are dropped; null: the kind's own"
    )
    stored: Literal["float16", "uint8"] = Field(
        "float16", description="type of the stored descriptors; uint8 takes half the space"
    )

    @property
    def options(self) -> dict[str, Any]:
        """Options of `load_keypoints`: what is not null."""
        values = {"size": self.size, "count": self.count, "threshold": self.threshold}
        return {key: value for key, value in values.items() if value is not None}


class DescribeConfig(Section):
    """The describer. Published describers have their own defaults (configs/)."""

    name: str = Field("efficientnet_lite0", description="a registry name, or any timm model")
    weights: Literal["pretrained", "random"] = "pretrained"
    checkpoint: Path | None = Field(
        None,
        description="a local file of weights, relook's or official; FILE#ema: averaged ones; null: packaged or timm's",
    )
    fit_from: Path | None = Field(
        None, description="an index whose fitted projections are used; null: fitted on this gallery"
    )
    fit_images: Positive = Field(128, description="images that the projections are fitted on, drawn by the seed")
    precision: Precision = Field("float32", description="of the network")
    runtime: Literal["auto", "torch", "onnxruntime", "openvino"] = Field(
        "auto",
        description="what runs the network; auto: onnxruntime on a CPU in float32, torch for the papers' networks and "
        "on CUDA. Descriptors are the same",
    )
    image: ImageConfig = ImageConfig()
    globals: GlobalsConfig = GlobalsConfig()
    superglobal: SuperGlobalModulesConfig | None = Field(None, description="null: plain GeM")
    locals: LocalsConfig = LocalsConfig()
    maps: MapsConfig = MapsConfig()
    keypoints: KeypointsConfig = KeypointsConfig()
