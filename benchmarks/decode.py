"""Decoding JPEGs at a part of their size (`describe.image.draft`): the time of it, and what it changes.

    python benchmarks/decode.py [--images FOLDER] [--drafts 1 1.5 2 3] [--photos 40] [--json FILE]

CPU milliseconds to read, decode and prepare one photo for the default describer, in full and reduced, by turns; the
photos are those of `--images`, and one of them enlarged to sides of 1,024, 4,000 and 8,000 pixels. Cosine distances are
between global descriptors of the same photo, in full and reduced, over all photos of which fewer pixels are decoded.
Photos of data sets are small, so those that are compared are mosaics of them, with the detail of each: 7 by 7 photos,
of about 2,100 pixels a side.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from measuring import ROOT, Claim, take_turns, write_json
from PIL import Image

from pipeline.config import DescribeConfig, parse_config
from pipeline.describe.packaged_describer import PackagedDescriber
from pipeline.imaging import read_image

SIDES = (1024, 4000, 8000)
# Pixels of a mosaic's photos; what a smaller one lacks is black.
TILE = 300


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(os.environ.get("RELOOK_SHARED", ROOT.parent / "shared"))
    parser.add_argument("--images", type=Path, default=shared / "data" / "landmarks")
    parser.add_argument("--drafts", type=float, nargs="+", default=[1.0, 1.5, 2.0, 3.0])
    parser.add_argument("--mosaics", type=int, default=30)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    photos = sorted(path for path in options.images.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    describers = {draft: PackagedDescriber(settings(draft)) for draft in (None, *options.drafts, 2.0)}
    claims = []
    with tempfile.TemporaryDirectory() as folder:
        made = [mosaic(photos, number, Path(folder)) for number in range(options.mosaics)]
        wanted = [vector_of(describers[None], photo) for photo in made]
        for draft in options.drafts:
            claims += changed(describers[draft], draft, made, wanted)
        for claim in claims:
            print(f"{claim.what}: {claim.after:.2e}")
        for side in SIDES:
            claims.append(decoding(enlarged(photos[0], side, Path(folder)), side, describers, options.repeat))
            print(f"{claims[-1].what}: before {claims[-1].before:.1f}, after {claims[-1].after:.1f}")
    write_json(options.json, claims)


def settings(draft: float | None) -> DescribeConfig:
    """The default describer's, without local descriptors."""
    values = {"image": {"draft": draft}, "locals": {"count": 0}}
    return parse_config({"describe": values}, "benchmark").describe


def prepared(describer: Any, photo: Path) -> Any:
    """A photo as the describer reads it, and whether it was reduced."""
    file = read_image(photo, icc=describer.icc, smallest=describer.smallest)
    if file.pixels.shape[1::-1] == file.whole:
        return describer.prepare(file.pixels), False
    return describer.prepare_reduced(file.pixels, file.whole), True


def vector_of(describer: Any, photo: Path) -> Any:
    """The global descriptor, or None where the photo is read in full, in float64."""
    ready, reduced = prepared(describer, photo)
    return describer.describe([ready])[0].vector.astype(np.float64) if reduced or not describer.smallest else None


def changed(describer: Any, draft: float, photos: Sequence[Path], wanted: Sequence[Any]) -> list[Claim]:
    """The mean and the largest cosine distance."""
    found = [vector_of(describer, photo) for photo in photos]
    distances = [1 - mine @ whole for mine, whole in zip(found, wanted, strict=True) if mine is not None]
    what = f"draft {draft:g}, {len(distances)} of {len(photos)} photos reduced, cosine distance"
    if not distances:
        return []
    return [
        Claim(f"{what}: mean", "1 - cosine", float(np.mean(distances))),
        Claim(f"{what}: largest", "1 - cosine", float(max(distances))),
    ]


def mosaic(photos: Sequence[Path], number: int, folder: Path) -> Path:
    """A JPEG of 7 x 7 photos, drawn at random, none of them resized."""
    rng = np.random.default_rng(number)
    whole = Image.new("RGB", (7 * TILE, 7 * TILE))
    for place, row in enumerate(rng.choice(len(photos), 49)):
        image = Image.open(photos[row]).convert("RGB")
        left, top = (int(rng.integers(0, max(1, side - TILE))) for side in image.size)
        whole.paste(image.crop((left, top, left + TILE, top + TILE)), (place % 7 * TILE, place // 7 * TILE))
    whole.save(folder / f"mosaic {number}.jpg", quality=92)
    return folder / f"mosaic {number}.jpg"


def enlarged(photo: Path, side: int, folder: Path) -> Path:
    """A JPEG of the photo whose longer side is so long."""
    image = Image.open(photo).convert("RGB")
    factor = side / max(image.size)
    size = round(image.width * factor), round(image.height * factor)
    image.resize(size, Image.Resampling.LANCZOS).save(folder / f"{side}.jpg", quality=90)
    return folder / f"{side}.jpg"


def decoding(photo: Path, side: int, describers: dict[Any, Any], repeat: int) -> Claim:
    """CPU milliseconds to read, decode and prepare one photo, in full and with draft = 2."""
    taken = take_turns(
        {name: partial(prepared, describers[name], photo) for name in (None, 2.0)},
        repeat,
    )
    what = f"read and prepare a JPEG of {side:,} pixels, draft 2"
    return Claim(what, "ms of CPU", 1000 * taken[2.0].cpu, 1000 * taken[None].cpu, beside="in full")


if __name__ == "__main__":
    main()
