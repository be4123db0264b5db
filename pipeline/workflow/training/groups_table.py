"""Groups of an index's photos as a manifest: every training verb, and `extract`, reads them as labels.

Written by `adapt`, from what it found, and by `label`, from what a person said.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from pipeline.files import write_bytes, write_errors
from pipeline.stores import Index
from pipeline.train.loop.task import Rows
from pipeline.workflow.duplicate_images import all_records


def write_groups(path: Path, index: Index, place_of: Mapping[str, int], number: Rows) -> None:
    """Write a row for each image of the index, whole or not at all.

    The label is the number of the group, from 1; near duplicates share it, and a photo in no group has none. A path is
    relative to the folder of the manifest where the photo is inside of it.

    Args:
        path: of the manifest.
        index: whose images they are.
        place_of: of each image the row that stands for it.
        number: [N] the group of each row; -1: none.

    Raises:
        RelookError: it cannot be written.
    """
    folder = path.resolve().parent
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("path", "id", "label", "bbox"))
    for record in all_records(index):
        group = int(number[place_of[record.id]])
        photo = index.image_file(record).resolve()
        if isinstance(photo, Path):
            path_there = (photo.relative_to(folder) if photo.is_relative_to(folder) else photo).as_posix()
        else:
            path_there = str(photo)
        table.writerow(
            (
                path_there,
                record.id,
                f"group {group + 1}" if group >= 0 else "",
                " ".join(map(str, record.bbox)) if record.bbox else "",
            )
        )
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, text.getvalue().encode("utf-8", "surrogateescape"))
