"""What the tests of the stores share: cards, records, descriptions, and processes that write to an index."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import RelookError
from pipeline.stores import Index, IndexWriter
from pipeline.types import Description, FloatArray, ImageRecord, Keypoints, LocalDescriptors, ModelCard

DIMENSION = 8
LOCAL_DIMENSION = 4
FITTED: Mapping[str, FloatArray] = {"globals.mean": np.arange(8, dtype=np.float32)}
ROOT = Path("/photos")

# One server imports the libraries once; each process is then forked from it in milliseconds.
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["pipeline.stores", "pytest", "numpy.random"])


def start(target: Callable[..., None], *arguments: Any) -> tuple[BaseProcess, Any]:
    """Run `target(connection, *arguments)` in another process; returns it and our end of the connection."""
    ours, theirs = _PROCESSES.Pipe()
    process = _PROCESSES.Process(target=target, args=(theirs, *arguments), daemon=True)
    process.start()
    theirs.close()
    return process, ours


def make_card(dimension: int = DIMENSION, **changes: Any) -> ModelCard:
    """A card of a model that does not exist."""
    values: dict[str, Any] = {
        "name": "test",
        "architecture": "none",
        "weights": "random weights (seed 0)",
        "settings": {"image": {"size": 96}, "scales": [1.0]},
        "fitted": "",
        "dimension": dimension,
        "local_dimension": LOCAL_DIMENSION,
    }
    return ModelCard(**(values | changes))


def unit_vectors(count: int, dimension: int = DIMENSION, seed: int = 0) -> FloatArray:
    """Random directions [count, dimension]."""
    vectors = np.random.default_rng(seed).normal(size=(count, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def make_locals(count: int, seed: int = 0) -> LocalDescriptors:
    """Local descriptors whose values survive the way through float16."""
    rng = np.random.default_rng(seed)
    return LocalDescriptors(
        unit_vectors(count, LOCAL_DIMENSION, seed).astype(np.float16).astype(np.float32),
        rng.uniform(0, 500, (count, 2)).astype(np.float32),
        rng.choice([0.7071, 1.0], count).astype(np.float32),
        np.sort(rng.uniform(0, 9, count).astype(np.float32))[::-1].copy(),
    )


def make_items(
    ids: Sequence[str], seed: int = 0, counts: Sequence[int] | None = None
) -> tuple[list[ImageRecord], list[Description]]:
    """Records of `ids` and what a describer may have said of them; `counts` local descriptors each, None for none."""
    vectors = unit_vectors(len(ids), seed=seed)
    records = [
        ImageRecord(name, f"{name}.jpg", f"label {number}", "val", None, 640, 480, 1000 + number, 10**18 + seed, "ab")
        for number, name in enumerate(ids)
    ]
    items = [None if counts is None else make_locals(counts[n], 100 * seed + n) for n in range(len(ids))]
    return records, [Description(vector, item) for vector, item in zip(vectors, items, strict=True)]


def make_index(directory: Path, tables: str = "parquet", ids: Sequence[str] = ("a", "b", "c"), seed: int = 0) -> Index:
    """An index of one part, with local descriptors."""
    with IndexWriter(directory) as writer:
        writer.begin(make_card(), {}, ROOT, tables)  # type: ignore[arg-type]
        writer.add(*make_items(ids, seed, [number % 3 for number in range(len(ids))]))
    return Index(directory)


def content(index: Index) -> dict[str, tuple[Any, ...]]:
    """Everything that an index says of each id, in values that can be compared."""
    vectors = {
        name: (vector.tobytes(), tuple(sorted(entry.items())))
        for table in index.globals_parts()
        for name, vector, entry in zip(table.ids, table.vectors, table.metadata, strict=True)
    }
    assert sorted(vectors) == sorted(index.records)
    keypoints = {name: _keypoints_of(index, name) for name in index.records}
    with index.local_store as store:
        return {
            name: (record, *vectors[name], *_plain(store.read([name])[0]), *keypoints[name])
            for name, record in index.records.items()
        }


def one_line(error: pytest.ExceptionInfo[RelookError]) -> str:
    """The message of an error, which is one line."""
    message = str(error.value)
    assert "\n" not in message
    return message


def same_locals(one: LocalDescriptors, other: LocalDescriptors) -> bool:
    """Whether all values and types are equal."""
    return _plain(one) == _plain(other)


def plain_keypoints(item: Keypoints) -> list[Any]:
    """Values that can be compared."""
    return [*_arrays(item.xy, item.descriptors, item.score, item.scale, item.orientation), item.region]


def _keypoints_of(index: Index, name: str) -> list[Any]:
    """Of an image; nothing where the index has none."""
    if index.keypoints_card is None:
        return []
    return [index.keypoints_card, *plain_keypoints(index.keypoints([name])[0])]


def _plain(item: LocalDescriptors) -> list[Any]:
    return _arrays(item.descriptors, item.xy, item.scale, item.weight)


def _arrays(*arrays: Any) -> list[Any]:
    return [(array.dtype.str, array.shape, array.tobytes()) for array in arrays]
