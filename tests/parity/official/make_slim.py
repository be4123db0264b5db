"""Makes this folder from full folders of official numbers: synthetic images and tensors alone, and fewer of them.

    python tests/parity/official/make_slim.py FULL_FOLDER [ANOTHER ...]

Kept are the arrays that do not come from a photo. Of pairs of local descriptors the first are kept, of the two ground
truths of Revisited Oxford and Paris the first, of the resized images one, of the matchers the small networks: less than
6 MB in all. Folders whose inputs are pictures of their own (`WHOLE_FOLDERS`) are left out. Nothing is computed:
every value is one that the official implementations gave (`notes.md` beside the full folders says how).
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np

# Arrays whose first axis is pairs of images, by folder: how many are kept, and the size of that axis.
PAIRS = {"ames_fp": (6, 1), "ames_bin": (6, 1), "rrt_gld": (6, 2)}
# What is left out for its size: the second ground truth, the pixels of two of three images, the large matchers.
LEFT_OUT = ("rparis6k", "db_synth0", "db_synth1", "full_")
LEFT_OUT_FILES = ("rparis6k", "manifest_full")
WHOLE_FOLDERS = ("superpoint", "ames_extract_cvnet", "ames_extract_dinov2")
# What a configuration does not name any more.
UNNAMED = ("photo", "full")
PHOTO = "photo"


def main(full: Path) -> None:
    """Write every folder of `full` beside this file."""
    here = Path(__file__).resolve().parent
    for folder in sorted(path for path in full.iterdir() if (path / "config.json").is_file()):
        if folder.name in WHOLE_FOLDERS:
            continue
        target = here / folder.name
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        pairs = PAIRS.get(folder.name)
        config = without_photos(json.loads((folder / "config.json").read_text()))
        if pairs is not None and "valid_locals" in config:
            config["valid_locals"] = {side: counts[: pairs[1]] for side, counts in config["valid_locals"].items()}
        if folder.name == "cvnet_preproc":
            config["images"] = [name for name in config["images"] if f"db_{name}" not in LEFT_OUT]
        (target / "config.json").write_text(json.dumps(config, indent=1) + "\n")
        for file in sorted(folder.iterdir()):
            if file.suffix == ".npz":
                write_arrays(target / file.name, dict(np.load(file)), pairs)
            elif file.suffix == ".json" and file.name != "config.json" and not left_out(file.name):
                shutil.copyfile(file, target / file.name)
    (here / "images").mkdir(exist_ok=True)
    for image in sorted((full / "images").glob("*.png")):
        if not image.name.startswith(PHOTO):
            shutil.copyfile(image, here / "images" / image.name)


def left_out(name: str) -> bool:
    """Whether a file of this name is not kept."""
    return any(part in name for part in LEFT_OUT_FILES)


def write_arrays(path: Path, arrays: dict[str, np.ndarray], pairs: tuple[int, int] | None) -> None:
    """Those arrays that come from no photo, fewer pairs of them."""
    kept = {}
    for name, array in arrays.items():
        if PHOTO in name or name.startswith(LEFT_OUT):
            continue
        if array.dtype.kind in "US":  # lists of names
            rows = [row for row in array.tolist() if PHOTO not in str(row)]
            kept[name] = np.array(rows, dtype=array.dtype)
        elif pairs is not None and array.ndim and len(array) == pairs[0] and not name.startswith("evalorder"):
            kept[name] = array[: pairs[1]]
        else:
            kept[name] = array
    np.savez_compressed(path, **kept)


def without_photos(value: Any) -> Any:
    """A configuration without names of photos and of what is left out, and without pairs that have a photo."""
    if isinstance(value, dict):
        return {key: without_photos(inner) for key, inner in value.items() if not key.startswith(UNNAMED)}
    if isinstance(value, list):
        return [without_photos(inner) for inner in value if not names_photo(inner)]
    return value


def names_photo(value: Any) -> bool:
    """Whether an entry of a list is a photo, or a pair with one."""
    entries = value if isinstance(value, list) else [value]
    return any(isinstance(entry, str) and entry.startswith(PHOTO) for entry in entries)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        main(Path(argument))
