"""What bfloat16 and float16 change: descriptors and scores on the official fixtures against float32.

    python benchmarks/precision.py [--device cpu|cuda] [--parity DIR]

Descriptors as 1 - cosine, scores as the largest difference of probabilities, and whether the fixture's pairs keep their
order. Float16 on a CPU is emulated and slow, and some operations lack it: it is tried on CUDA only.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from pipeline.describe import load_describer
from pipeline.rerank import load_reranker
from pipeline.types import Candidates, Description, LocalDescriptors

ROOT = Path(__file__).resolve().parents[1]


class Gallery:
    """Descriptions in memory."""

    def __init__(self, items: list[Description]) -> None:
        self._items = items

    def globals(self, ids: list[str]) -> np.ndarray:
        return np.stack([self._items[int(name)].vector for name in ids])

    def locals(self, ids: list[str]) -> list[Any]:
        return [self._items[int(name)].locals for name in ids]

    def maps(self, ids: list[str]) -> list[Any]:
        return [self._items[int(name)].maps for name in ids]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--parity", type=Path, default=os.environ.get("RELOOK_PARITY", ROOT.parent / "shared/parity"))
    options = parser.parse_args()
    precisions = ["bfloat16", "float16"] if options.device == "cuda" else ["bfloat16"]
    table = Table(title=f"against float32, on {options.device}")
    for column in ("model", "precision", "1 - cosine", "largest change of a score", "order of the pairs"):
        table.add_column(column)
    with tempfile.TemporaryDirectory() as work:
        weights = _weights(options.parity, Path(work))
        for precision in precisions:
            for name, cosine, change, kept in measure(options.parity, weights, precision, options.device):
                table.add_row(name, precision, cosine, change, kept)
    Console(width=120).print(table)


def measure(
    parity: Path, weights: Callable[..., Path], precision: str, device: str
) -> Iterator[tuple[str, str, str, str]]:
    """One row per model: its name, what descriptors and scores change by, and whether the order is kept."""
    official = weights("cvnet_r50", "manifest.json", "model_state")
    for name in ("cvnet_r50", "superglobal_r50"):
        exact, rough = (_describe(parity, name, official, p, device) for p in ("float32", precision))
        cosines = [float(one.vector @ other.vector) for one, other in zip(exact, rough, strict=True)]
        yield name, f"{1 - min(cosines):.1e}", "", ""
    described = _describe(parity, "cvnet_r50", official, "float32", device)
    yield _row("cvnet", described, described, official, precision, device)
    for folder, name in (("rrt_gld", "rrt"), ("ames_fp", "ames"), ("ames_bin", "ames")):
        for manifest in sorted((parity / folder).glob("manifest*.json")):
            queries, items = _inputs(parity / folder, manifest)
            checkpoint = weights(folder, manifest.name, "state")
            label = f"{folder} {manifest.stem.removeprefix('manifest').strip('_')}".strip()
            row = _row(name, queries, items, checkpoint, precision, device)
            yield label, *row[1:]


def _row(
    name: str, queries: list[Description], items: list[Description], checkpoint: Path, precision: str, device: str
) -> tuple[str, str, str, str]:
    """Every query against every item."""
    names = [str(number) for number in range(len(items))]
    candidates = Candidates(
        [str(n) for n in range(len(queries))], [names] * len(queries), [np.ones(len(items))] * len(queries)
    )
    exact, rough = (
        np.array(load_reranker(name, checkpoint, device, precision=p).score(queries, candidates, Gallery(items)))
        for p in ("float32", precision)
    )
    change = float(np.abs(exact - rough).max())
    clear = swapped = 0
    for row, other in zip(exact, rough, strict=True):
        gaps = row[:, None] - row
        apart = gaps > 2 * change  # nearer pairs are ties at this precision
        clear += int(apart.sum())
        swapped += int((apart & (other[:, None] <= other)).sum())
    near = exact.size * (len(items) - 1) // 2 - clear
    return name, "", f"{change:.1e}", f"{swapped} of {clear} swapped ({near} nearer than twice the change)"


def _describe(parity: Path, name: str, checkpoint: Path, precision: str, device: str) -> list[Description]:
    describer = load_describer(name, checkpoint, device, precision=precision)
    files = sorted((parity / "images").glob("*.png"))
    pictures = [np.asarray(Image.open(file).convert("RGB")) for file in files]
    return [describer.describe([describer.prepare(picture)])[0] for picture in pictures]


def _inputs(folder: Path, manifest: Path) -> tuple[list[Description], list[Description]]:
    with np.load(folder / "inputs.npz") as arrays:
        given = {name: arrays[name] for name in arrays.files}
    suffix = manifest.stem.removeprefix("manifest")

    def side(rows: str, mask: str, vectors: str) -> list[Description]:
        globals_ = given.get(vectors, np.zeros((len(given[rows]), 1)))
        return [_description(*parts) for parts in zip(given[rows], given[mask], globals_, strict=True)]

    if "src_local" in given:
        return side("src_local", "src_mask", "src_global"), side("tgt_local", "tgt_mask", "tgt_global")
    return side(f"q{suffix}", f"qm{suffix}", ""), side(f"t{suffix}", f"tm{suffix}", "")


def _description(rows: np.ndarray, mask: np.ndarray, vector: np.ndarray) -> Description:
    kept = rows[~mask].astype(np.float32)
    ones = np.ones(len(kept), np.float32)
    return Description(
        vector.astype(np.float32), LocalDescriptors(kept, np.zeros((len(kept), 2), np.float32), ones, ones)
    )


def _weights(parity: Path, work: Path) -> Callable[..., Path]:
    """Files as the authors would have released them, with tensors drawn by the fixtures' rule."""
    spec = importlib.util.spec_from_file_location("official_weights", parity / "official_weights.py")
    assert spec is not None
    assert spec.loader is not None
    rule: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(rule)
    salt = (parity / "salt.txt").read_text().strip() if (parity / "salt.txt").exists() else ""

    def write(folder: str, manifest: str, wrapper: str) -> Path:
        path = work / f"{folder}-{manifest}.pt"
        if not path.exists():
            torch.save({wrapper: rule.make_state_dict(str(parity / folder / manifest), salt)}, path)
        return path

    return write


if __name__ == "__main__":
    main()
