"""`shards/`: what the processes that share one extraction have agreed on, and the folder that each of them writes.

Beside the parts of an index, which it is not a part of. Each shard's folder is an index directory of its own, so its
lock, its commits and what a killed writer leaves are those of every index. `plan.json` is written last and removed
first: without it the folder means nothing. Layout: docs/index-format.md.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.errors import RelookError
from pipeline.faults import fault_point
from pipeline.files import write_bytes, write_errors
from pipeline.stores.index.manifest import PartFile
from pipeline.stores.index.part_files import write_file
from pipeline.stores.index.tables import (
    RECORDS_SCHEMA,
    read_ids,
    read_record_rows,
    read_records,
    read_table,
    records_of_table,
    write_records,
    write_table,
)
from pipeline.types import ImageRecord

FOLDER = "shards"
PLAN = "plan.json"
_FORMAT = 1
_NAMES = pa.schema([("id", pa.string())])


class ShardPlan(BaseModel):
    """One extraction that is divided into shards.

    Attributes:
        run: the name of its folder below `shards/`.
        shards: their number N.
        block: photos that share batches; a shard is a run of whole blocks of `todo`.
        began: when the photos were listed, ISO 8601 in UTC.
        source: the photos, as a command names them.
        settings: what every shard has to have in common, in plain JSON values.
        fingerprint: of the model.
        generation: of the index when the photos were compared with it.
        state: `state_of` the index's records then.
        counts: of images: "images" listed, "todo" to describe, and what the comparison counted.
        failed: (id, path, reason) of what no shard can read, because its name is not text.
        todo: the images to describe, in order.
        names, revised: images whose descriptors stay; the id of each so far, and its new record.
        removed, replaced: ids that leave the index.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int = _FORMAT
    run: str = Field(pattern="^[0-9a-f]{12}$")
    shards: int = Field(gt=0)
    block: int = Field(gt=0)
    began: str
    source: str
    settings: dict[str, Any]
    fingerprint: str
    generation: int
    state: str
    counts: dict[str, int]
    failed: tuple[tuple[str, str, str], ...]
    todo: PartFile
    names: PartFile
    revised: PartFile
    removed: PartFile
    replaced: PartFile

    @property
    def content(self) -> bytes:
        """Of `plan.json`."""
        return self.model_dump_json(indent=1).encode()

    def files(self) -> tuple[PartFile, ...]:
        """Its tables, below `shards/`."""
        return (self.todo, self.names, self.revised, self.removed, self.replaced)

    def rows(self, shard: int) -> tuple[int, int]:
        """The first row of `todo` that shard `shard` (from 1) describes, and the row behind its last."""
        count = self.counts["todo"]
        blocks = -(-count // self.block)
        first, last = (blocks * number // self.shards * self.block for number in (shard - 1, shard))
        return min(first, count), min(last, count)


class Shards:
    """The folder `shards/` of an index.

    Args:
        index: the index directory.
    """

    def __init__(self, index: Path) -> None:
        self.directory = index / FOLDER

    def plan(self) -> ShardPlan | None:
        """What is agreed on; None: nothing is. Raises RelookError where it is damaged."""
        path = self.directory / PLAN
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise RelookError(f"{path}: cannot be read ({error.strerror})") from None
        return parse_plan(content, str(path))

    def begin(
        self,
        todo: Sequence[ImageRecord],
        revised: Mapping[str, ImageRecord],
        removed: Collection[str],
        replaced: Collection[str],
        **values: Any,
    ) -> ShardPlan:
        """Agree on a plan, whose other fields are `values`; the lock of the index has to be held.

        Remains of earlier runs are removed first. Raises RelookError when the disk is full or closed to us.
        """
        self.remove()
        run = secrets.token_hex(6)

        def written(name: str, write: Any) -> PartFile:
            return write_file(self.directory, f"{run}/{name}.parquet", write)

        plan = ShardPlan(
            run=run,
            began=datetime.now(UTC).isoformat(timespec="seconds"),
            todo=written("todo", lambda path: write_records(path, todo)),
            names=written("names", lambda path: _write_names(path, revised)),
            revised=written("revised", lambda path: write_records(path, list(revised.values()))),
            removed=written("removed", lambda path: _write_names(path, sorted(removed))),
            replaced=written("replaced", lambda path: _write_names(path, sorted(replaced))),
            **values,
        )
        with write_errors(self.directory / PLAN):
            write_bytes(self.directory / PLAN, plan.content)
        return plan

    def folder(self, plan: ShardPlan, shard: int) -> Path:
        """The index directory of shard `shard`, from 1."""
        return self.directory / plan.run / f"{shard}-of-{plan.shards}"

    def todo(self, plan: ShardPlan, shard: int) -> list[ImageRecord]:
        """The images that a shard describes. Raises RelookError where the table is damaged."""
        path = self.directory / plan.todo.path
        table = read_record_rows(path, np.arange(*plan.rows(shard)))
        return records_of_table(table.select(RECORDS_SCHEMA.names), path)

    def revised(self, plan: ShardPlan) -> dict[str, ImageRecord]:
        """New records of images whose descriptors stay, by the ids that they have had."""
        records = read_records(self.directory / plan.revised.path)
        return dict(zip(read_ids(self.directory / plan.names.path), records, strict=True))

    def gone(self, plan: ShardPlan) -> list[str]:
        """Ids that leave the index."""
        files = (plan.removed, plan.replaced)
        return [name for file in files for name in read_table(self.directory / file.path, _NAMES)["id"].to_pylist()]

    def remove(self) -> None:
        """Remove everything. A process killed on the way leaves no plan; what it leaves the next one removes."""
        with write_errors(self.directory):
            (self.directory / PLAN).unlink(missing_ok=True)
            fault_point("plan removed")
            if self.directory.exists():
                shutil.rmtree(self.directory)
        fault_point("shards removed")


def parse_plan(content: bytes, path: str) -> ShardPlan:
    """The plan that a file holds; `path` is what errors name. Raises RelookError where it is none."""
    try:
        return ShardPlan.model_validate(json.loads(content.decode("utf-8")))
    except (ValueError, ValidationError) as error:
        raise RelookError(f"{path}: cannot be read ({' '.join(str(error).split())})") from None


def state_of(records: Iterable[ImageRecord]) -> str:
    """A digest of an index's records that does not depend on their order."""
    total = 0
    for record in records:
        total += int.from_bytes(hashlib.sha256(repr(record).encode()).digest(), "big")
    return f"{total % (1 << 256):064x}"


def _write_names(path: Path, names: Iterable[str]) -> None:
    write_table(path, pa.table([pa.array(list(names), pa.string())], _NAMES))
