"""The parts of an evaluation that is divided among processes: one file each, joined once.

A part says what it is of, so that parts of two evaluations never mix. It is written in one step when its shard is done;
a shard that is killed leaves nothing and is run again.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.config import Config
from pipeline.errors import RelookError
from pipeline.files import write_bytes, write_errors
from pipeline.workflow.evaluation.collected import Collected
from pipeline.workflow.evaluation.query_sets import EvaluationQueries
from pipeline.workflow.model_loading import choose_device
from pipeline.workflow.opened_index import OpenedIndex

_FORMAT = 1
_NAME = re.compile(r"(\d+)-of-(\d+)\.json\.gz")
_SHOWN = 8


def about(config: Config, gallery: OpenedIndex, chain: list[str], query_set: EvaluationQueries) -> dict[str, Any]:
    """What every part of one evaluation has in common, in plain JSON values."""
    queries = hashlib.sha256("\0".join(record.id for record in query_set.records).encode()).hexdigest()
    settings = {
        "evaluate": config.evaluate.model_dump(mode="json", exclude={"report", "fill", "validation"}),
        "rerank": config.rerank.model_dump(mode="json"),
        "store": config.store.kind,
        "describe": config.describe.model_dump(mode="json", exclude_unset=True),
        "device": choose_device(config),
    }
    manifest = gallery.index.manifest
    found = {
        "fingerprint": manifest.fingerprint,
        "generation": manifest.generation,
        "protocol": query_set.protocol.name,
        "queries": [len(query_set.records), queries],
        "chain": chain,
        **settings,
    }
    plain: dict[str, Any] = json.loads(json.dumps(found))
    return plain


def write_part(folder: Path, shard: int, shards: int, about: Mapping[str, Any], found: Collected) -> Path:
    """Write the part of one shard, from 1. Raises RelookError where it cannot be written."""
    path = folder / f"{shard}-of-{shards}.json.gz"
    values = {"format": _FORMAT, "about": dict(about), "found": found.to_document()}
    with write_errors(path):
        write_bytes(path, gzip.compress(json.dumps(values).encode(), 6, mtime=0))
    return path


def read_parts(folder: Path, about: Mapping[str, Any]) -> Collected:
    """All parts, in their order.

    Args:
        folder: where every shard wrote its own.
        about: of the evaluation that they have to be of.

    Raises:
        RelookError: a part is missing (the message names them), damaged, or of another evaluation.
    """
    names = [match for path in sorted(folder.glob("*.json.gz")) if (match := _NAME.fullmatch(path.name))]
    counts = {int(match[2]) for match in names}
    if not counts:
        raise RelookError(f"{folder}: no parts to join; make them with: relook evaluate --shard K/N --parts {folder}")
    if len(counts) > 1:
        shown = " and ".join(map(str, sorted(counts)))
        raise RelookError(f"{folder}: parts of {shown} shards; remove those that are not meant")
    (count,) = counts
    missing = sorted(set(range(1, count + 1)) - {int(match[1]) for match in names})
    if missing:
        named = ", ".join(f"{number}/{count}" for number in missing[:_SHOWN])
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        raise RelookError(f"{folder}: shards that are not done: {named}{more}; run them, then join again")
    first, *others = (_read(folder / f"{number}-of-{count}.json.gz", about) for number in range(1, count + 1))
    for other in others:
        first.append(other)
    return first


def _read(path: Path, about: Mapping[str, Any]) -> Collected:
    try:
        values = json.loads(gzip.decompress(path.read_bytes()))
        known = values["about"] if values["format"] == _FORMAT else {}
        differing = [key for key in about if known.get(key) != about[key]]
        found = None if differing else Collected.from_document(values["found"])
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RelookError(
            f"{path}: damaged ({' '.join(str(error).split())}); remove it and run that shard again"
        ) from None
    if found is None:
        key = differing[0]
        raise RelookError(
            f"{path}: of another evaluation ({key} differs); give every shard and the join the same options, or remove "
            "it and run that shard again"
        )
    return found
