"""Kinds of keypoints: licence, bytes and milliseconds a photo, matchers; and what the stored type does to matches.

    python benchmarks/keypoints.py PHOTOS [--photos 20] [--size 640] [--json FILE] [--only KIND...]

One core. "ms" is the median CPU time of resizing and detecting one decoded photo whose longer side then has `--size`
pixels (where it is not given, as each kind has it), "bytes" what an index stores of it on average. Kinds whose weights
are not installed are measured with random ones, which cost the same time for each picture; how many keypoints they find
says nothing, so that their bytes are those of `count` keypoints. Matches are mutual nearest neighbours of photos of one
label, with float32 as the reference: how many pairs of points stay.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from itertools import combinations
from pathlib import Path
from typing import Any

import kornia.feature
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from pipeline.catalog import load_catalog
from pipeline.describe import load_keypoints
from pipeline.describe.keypoints.superpoint import SuperPointNetwork
from pipeline.imaging import read_image
from pipeline.rerank.matching.matchers import MATCHERS
from pipeline.stores.index.keypoint_store import KeypointStore, encode, write_keypoints
from pipeline.stores.index.manifest import StoredType
from pipeline.types import KeypointExtractor, Keypoints

LICENCES = {
    "xfeat": "Apache-2.0",
    "sift": "none needed (the patent ended in 2020)",
    "aliked": "BSD-3-Clause",
    "disk": "Apache-2.0",
    "dedode": "MIT",
    "keynet": "Apache-2.0 (kornia)",
    "superpoint": "non-commercial",
}
STORED: tuple[StoredType, ...] = ("float16", "uint8")


def main() -> None:
    """Measure every kind and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", help="a folder or a manifest")
    parser.add_argument("--photos", type=int, default=20)
    parser.add_argument("--size", type=int, help="pixels of the longer side; default: as each kind has it")
    parser.add_argument("--only", nargs="+", default=list(LICENCES), choices=list(LICENCES))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    catalog = load_catalog(arguments.images)
    step = max(1, len(catalog) // arguments.photos)
    records = list(catalog)[::step][: arguments.photos]
    pictures = [read_image(catalog.file(record)).pixels for record in records]
    # Neighbours in the catalog show the same thing more often than photos at equal distances.
    matched = list(catalog)[: arguments.photos]
    with tempfile.TemporaryDirectory() as folder:
        rows = []
        for kind in arguments.only:
            options = {} if arguments.size is None else {"size": arguments.size}
            rows.append(measured(kind, pictures, Path(folder), options))
            if not rows[-1]["random"]:
                labels = [record.label for record in matched]
                photos = [read_image(catalog.file(record)).pixels for record in matched]
                rows[-1]["stored"] = effect(load_keypoints(kind), photos, labels, Path(folder))
            print(json.dumps(rows[-1]), flush=True)
    show(rows)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def measured(kind: str, pictures: list[Any], folder: Path, options: dict[str, Any]) -> dict[str, Any]:
    """One line of the table."""
    random = kind not in ("xfeat", "sift")
    checkpoint = random_weights(kind, folder) if random else None
    extractor = load_keypoints(kind, checkpoint, accept_license=["superpoint"], **options)
    extractor.extract([extractor.prepare(pictures[0])])
    seconds, found = [], []
    for picture in pictures:
        started = time.process_time()
        found += extractor.extract([extractor.prepare(picture)])
        seconds.append(time.process_time() - started)
    count = int(extractor.card.settings["count"])
    if random:
        found = [full(count, extractor.card.dimension, kind == "keynet")]
    sizes = {stored: bytes_of(found, stored, folder) for stored in STORED}
    return {
        "kind": kind,
        "licence": LICENCES[kind],
        "matchers": [name for name, made in MATCHERS.items() if made.features is None or kind in made.features],
        "random": random,
        "size": extractor.card.settings["size"],
        "count": count,
        "dimension": extractor.card.dimension,
        "keypoints": None if random else round(float(np.mean([len(one) for one in found])), 1),
        "bytes": sizes,
        "ms": round(1000 * float(np.median(seconds)), 1),
    }


def full(count: int, dimension: int, oriented: bool) -> Keypoints:
    """As many keypoints as there may be."""
    values, zeros = np.zeros((count, dimension), np.float32), np.zeros(count, np.float32)
    return Keypoints(
        np.zeros((count, 2), np.float32), values, zeros, zeros + oriented, zeros + oriented, (0.0, 0.0, 1.0, 1.0)
    )


def bytes_of(found: list[Keypoints], stored: StoredType, folder: Path) -> int:
    """Per photo, in a part's file."""
    file = folder / "part.h5"
    write_keypoints(file, [str(number) for number in range(len(found))], [encode(one, stored) for one in found])
    return round(file.stat().st_size / len(found))


def effect(extractor: KeypointExtractor, pictures: list[Any], labels: list[str], folder: Path) -> dict[str, Any]:
    """Cosines to the descriptors before they were stored, and the matches that stay, per stored type."""
    found = [extractor.extract([extractor.prepare(picture)])[0] for picture in pictures]
    pairs = [pair for pair in combinations(range(len(found)), 2) if labels[pair[0]] == labels[pair[1]]]
    reference = [mutual(found[first], found[second]) for first, second in pairs]
    total = sum(map(len, reference))
    results: dict[str, Any] = {"pairs": len(pairs), "float32": {"matches": total}}
    for stored in STORED:
        file = folder / f"{stored}.h5"
        write_keypoints(file, [str(number) for number in range(len(found))], [encode(one, stored) for one in found])
        with KeypointStore(lambda ids, file=file: [(file, int(name)) for name in ids]) as store:  # type: ignore[misc]
            back = store.read([str(number) for number in range(len(found))])
        cosines = np.concatenate(
            [
                (one.descriptors * two.descriptors).sum(axis=1) / np.linalg.norm(two.descriptors, axis=1)
                for one, two in zip(found, back, strict=True)
            ]
        )
        # Queries are not stored: their descriptors are float32.
        matches = [mutual(found[first], back[second]) for first, second in pairs]
        same = sum(len(one & two) for one, two in zip(reference, matches, strict=True))
        results[stored] = {
            "cosine_mean": round(float(cosines.mean()), 7),
            "cosine_min": round(float(cosines.min()), 7),
            "matches": sum(map(len, matches)),
            "same_percent": round(100 * same / max(1, total), 2),
        }
    return results


def mutual(first: Keypoints, second: Keypoints) -> set[tuple[int, int]]:
    """Mutual nearest neighbours."""
    if not len(first) or not len(second):
        return set()
    products = first.descriptors @ second.descriptors.T
    there, back = products.argmax(axis=1), products.argmax(axis=0)
    return {(row, int(column)) for row, column in enumerate(there) if back[column] == row}


def random_weights(kind: str, folder: Path) -> Path:
    """Files as they were published, with random values."""
    torch.manual_seed(0)
    file = folder / f"{kind}.pth"
    if kind == "aliked":
        torch.save(kornia.feature.ALIKED().state_dict(), file)
    elif kind == "disk":
        torch.save({"extractor": kornia.feature.DISK().state_dict()}, file)
    elif kind == "superpoint":
        torch.save(SuperPointNetwork().state_dict(), file)
    else:
        detector = kornia.feature.KeyNet(False)
        torch.nn.init.constant_(detector.last_conv[0].bias, 2.0)
        parts: dict[str, Any] = {
            "keynet_pytorch.pth": detector,
            "OriNet.pth": kornia.feature.OriNet(False),
            "checkpoint_liberty_with_aug.pth": kornia.feature.HardNet(False),
        }
        if kind == "dedode":
            network = kornia.feature.DeDoDe("L", "B")
            parts = {
                "dedode_detector_L_v2.pth": network.detector,
                "dedode_descriptor_B.pth": network.descriptor,
            }
        for name, module in parts.items():
            torch.save(module.state_dict(), folder / name)
        return folder
    return file


def show(rows: list[dict[str, Any]]) -> None:
    """The table."""
    names = ("kind", "licence", "size", "count", "d", "keypoints", "float16 bytes", "uint8 bytes", "ms", "matchers")
    table = Table(*names)
    for row in rows:
        sizes = row["bytes"]
        values = (row["kind"], row["licence"], row["size"], row["count"], row["dimension"], row["keypoints"] or "-")
        measured_values = f"{sizes['float16']:,}", f"{sizes['uint8']:,}", f"{row['ms']:.0f}"
        table.add_row(*map(str, values), *measured_values, ", ".join(row["matchers"]))
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
