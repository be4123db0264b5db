"""Bytes that a photo takes in an index, for each representation that relook can store: docs/representations.md.

    python benchmarks/bytes_per_image.py [--photos 12]

Makes an index of sample photos per representation, through the same function as `relook extract`, with random weights:
no figure here depends on what the weights are. "payload" are the arrays alone; "file" is the committed part's length,
which adds HDF5's or Parquet's own structures. Most of those are a fixed amount per part, which holds up to 1,024 photos
and here `--photos`, so a real index is nearer to the payload.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from pipeline.config import load_config
from pipeline.stages.extract import extract
from pipeline.stores import Index
from pipeline.stores.index.manifest import PartKind

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs"
SAMPLES = sorted((ROOT / "data" / "samples" / "images").rglob("*_00.jpg"))

# Width and height of the photos: a CVNet map of 20 x 15 cells, and more than 1,000 cells over DELG's seven scales.
SIZE = 320, 240

# One scale is enough where the number of scales changes no figure.
ONE_SCALE = "describe.globals.scales=[1.0]"
CVNET = ("describe.name=cvnet_r50", ONE_SCALE)
FIFTY = ("describe.locals.count=50", "describe.locals.scales=[1.0]", *CVNET)
# More than 600 cells of 14 pixels of such a photo; the configuration's 770 pixels have more, and take longer.
SIX_HUNDRED = ("describe.locals.count=600", "describe.image.size=420")

# Datasets of a part that say which rows are whose, not what the rows are.
_STRUCTURE = ("ids", "offsets")


@dataclass(frozen=True)
class Representation:
    """One row of the table.

    Attributes:
        name: what it is.
        formula: bytes of an image's arrays.
        kind: the part file that holds it.
        config: a published configuration, or None.
        settings: on top of it.
    """

    name: str
    formula: str
    kind: PartKind
    config: str | None = None
    settings: Sequence[str] = ()


def representations(work: Path) -> list[Representation]:
    """All rows; files of weights for AMES's projections are made in `work`."""
    full, binary = write_projections(work)
    ames = "ames_cvnet_r101_eccv2024"
    plain = ("describe.locals.count=0", ONE_SCALE)
    return [
        Representation("global, EfficientNet-Lite0", "1,280 x 4", "globals", None, plain),
        Representation("global, CVNet, SuperGlobal, DELG", "2,048 x 4", "globals", None, (*plain, CVNET[0])),
        Representation("default locals", "50 x (128 x 2 + 16)", "locals"),
        Representation(
            "default locals, no geometry", "50 x 128 x 2", "locals", None, ("describe.locals.geometry=false",)
        ),
        Representation(
            "DELG locals",
            "1,000 x (128 x 2 + 16)",
            "locals",
            "rrt_delg_r50_iccv2021",
            ("describe.locals.threshold=0", ONE_SCALE),  # random attention stays below the published threshold
        ),
        Representation("CVNet maps, 20 x 15 cells", "534 x 256 x 2", "maps", "cvnet_r50_cvpr2022", (ONE_SCALE,)),
        Representation("CVNet locals as they are", "50 x 1,024 x 2", "locals", ames, FIFTY),
        Representation("AMES", "50 x 128 x 2", "locals", ames, (*FIFTY, f"describe.locals.projection={full}")),
        Representation("AMES, bits", "50 x 128 / 8", "locals", ames, (*FIFTY, f"describe.locals.projection={binary}")),
        Representation("ELViS", "600 x 768 x 2", "locals", "train_elvis_iclr2026", SIX_HUNDRED),
        Representation("LoCoRe", "48 x (768 x 2 + 16)", "locals", "train_locore_cvpr2025"),
        Representation("product map", "49 x (128 x 2 + 16)", "locals", "rrt_sop_r50_iccv2021"),
    ]


def main() -> None:
    """Extract every representation and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=12)
    arguments = parser.parse_args()
    started = time.monotonic()
    table = Table("representation", "formula", "payload", "file", title="bytes per image", title_justify="left")
    for column in table.columns[2:]:
        column.justify = "right"
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        photos = write_photos(work / "photos", arguments.photos)
        for number, row in enumerate(representations(work)):
            payload, file = measure(row, photos, work / f"index-{number}")
            table.add_row(row.name, row.formula, f"{payload:,.0f}", f"{file:,.0f}")
    console = Console(width=120)
    console.print(table)
    width, height = SIZE
    seconds = time.monotonic() - started
    console.print(f"{arguments.photos} photos of {width} x {height} pixels, one part each, {seconds:.0f} s")


def measure(row: Representation, photos: Path, index: Path) -> tuple[float, float]:
    """Bytes per image of the arrays alone, and of the files that hold them."""
    overrides = [f"index={index}", "describe.weights=random", *row.settings]
    extract(load_config(CONFIGS / f"{row.config}.yaml" if row.config else None, overrides), str(photos))
    manifest = Index(index).manifest
    files = [part.files[row.kind] for part in manifest.parts]
    images = manifest.counts["images"]
    if row.kind == "globals":
        payload = images * manifest.card.dimension * np.dtype(np.float32).itemsize
    else:
        payload = sum(bytes_of_arrays(index / file.path) for file in files)
    return payload / images, sum(file.bytes for file in files) / images


def bytes_of_arrays(path: Path) -> int:
    """What an HDF5 part holds beside the structure that every part has."""
    with h5py.File(path, "r") as file:
        return sum(file[name].nbytes for name in file if name not in (*_STRUCTURE, "shapes"))


def write_photos(folder: Path, count: int) -> Path:
    """The first sample photos, all of one size."""
    folder.mkdir()
    for path in SAMPLES[:count]:
        with Image.open(path) as image:
            image.convert("RGB").resize(SIZE).save(folder / path.name)
    return folder


def write_projections(folder: Path) -> tuple[Path, Path]:
    """Files with the projections of AMES on CVNet, to 128 values and to 128 bits, under the official key names."""
    generator = torch.Generator().manual_seed(0)
    full = {
        "remap_local.0.weight": torch.randn(128, 1024, generator=generator),
        "remap_local.0.bias": torch.zeros(128),
        "remap_local.1.weight": torch.ones(128),
        "remap_local.1.bias": torch.zeros(128),
    }
    binary = {"remap_local.0.W": torch.randn(1024, 128, generator=generator)}
    paths = folder / "ames.pt", folder / "ames-bits.pt"
    for path, state in zip(paths, (full, binary), strict=True):
        torch.save({"state": state}, path)
    return paths


if __name__ == "__main__":
    main()
