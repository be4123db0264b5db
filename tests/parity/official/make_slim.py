"""Makes this folder from full folders of official numbers: synthetic images and tensors alone, and fewer of them.

    python tests/parity/official/make_slim.py FULL_FOLDER [ANOTHER ...]

Kept are the arrays that do not come from a photo. Of pairs of local descriptors the first are kept, of the two ground
truths of Revisited Oxford and Paris the first, of the resized images one at the two scales that resize, of AMES one
width (`ames_pipeline` has another), of the matchers the small networks: less than 6 MB in all, `MOST_BYTES`. Folders
whose inputs are pictures of their own (`WHOLE_FOLDERS`) are left out. Nothing is computed: every value is one that the
official implementations gave (`notes.md` beside the full folders says how).
"""

from __future__ import annotations

import json
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

# Arrays whose first axis is pairs of images, by folder: how many are kept, and the size of that axis.
PAIRS = {"ames_fp": (6, 1), "ames_bin": (6, 1), "rrt_gld": (6, 2)}
# What is left out for its size: the second ground truth, the pixels of two of three images, the large matchers.
LEFT_OUT = ("rparis6k", "db_synth0", "db_synth1", "full_")
LEFT_OUT_FILES = ("rparis6k", "manifest_full")
# The same by folder, anywhere in the name of an array or file: the scale that does not resize (`cvnet_r50` has it), and
# the second width of local descriptors.
LEFT_OUT_OF = {"cvnet_preproc": "_1.0_", "ames_fp": "_1024", "ames_bin": "_1024"}
WHOLE_FOLDERS = ("superpoint", "ames_extract_cvnet", "ames_extract_dinov2")
# What a configuration does not name any more.
UNNAMED = ("photo", "full")
PHOTO = "photo"
# Of all files together.
MOST_BYTES = 6_000_000


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
            config["scales"] = [scale for scale in config["scales"] if scale != 1]
        (target / "config.json").write_text(json.dumps(config, indent=1) + "\n")
        unwanted = LEFT_OUT_OF.get(folder.name)
        for file in sorted(folder.iterdir()):
            if file.suffix == ".npz":
                arrays = {name: array for name, array in np.load(file).items() if not named(name, unwanted)}
                write_arrays(target / file.name, arrays, pairs)
            elif file.suffix == ".json" and file.name != "config.json" and not left_out(file.stem, unwanted):
                compact = json.dumps(json.loads(file.read_text()), separators=(",", ":"))
                (target / file.name).write_text(compact + "\n")
    (here / "images").mkdir(exist_ok=True)
    for image in sorted((full / "images").glob("*.png")):
        if not image.name.startswith(PHOTO):
            shutil.copyfile(image, here / "images" / image.name)


def left_out(name: str, unwanted: str | None) -> bool:
    """Whether a file of this name is not kept."""
    return any(part in name for part in LEFT_OUT_FILES) or named(name, unwanted)


def named(name: str, unwanted: str | None) -> bool:
    """Whether a name has the unwanted part, in its middle or at its end."""
    return unwanted is not None and unwanted in f"{name}_"


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
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in kept.items():
            entry = zipfile.ZipInfo(f"{name}.npy")
            entry.compress_type = zipfile.ZIP_LZMA  # a twentieth smaller than numpy's own; np.load reads both
            with archive.open(entry, "w") as stream:
                np.lib.format.write_array(stream, array)


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
    written = sum(file.stat().st_size for file in Path(__file__).resolve().parent.rglob("*") if file.is_file())
    print(f"{written:,} bytes, at most {MOST_BYTES:,}")
