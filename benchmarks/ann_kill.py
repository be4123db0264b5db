"""What a writer leaves that is killed while it writes: `ann.py --kill`.

Each library saves or adds in a loop the way its documentation shows, and is killed at a random instant. Then another
process opens what is there: it is whole, it holds the wrong number of vectors, it is refused, or it ends the process.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ann_contenders import Relook
from rich.console import Console
from rich.table import Table

ROWS, WIDTH, KILLS = 20_000, 128, 20
_SPAWN = multiprocessing.get_context("spawn")


def kill_all(folder: Path) -> None:
    """Kill each writer some times and print what it left."""
    table = Table("", "whole", "other", title=f"after {KILLS} kills each")
    for name, (write, count) in WRITERS.items():
        found = Counter(_killed(folder / name, write, count, seed) for seed in range(KILLS))
        others = "; ".join(f"{what}: {times}" for what, times in found.items() if what != "whole")
        table.add_row(name, str(found["whole"]), others)
    Console(width=150).print(table)


def _killed(folder: Path, write: Callable[[Path, Any], None], count: Callable[[Path], int], seed: int) -> str:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    ours, theirs = _SPAWN.Pipe()
    writer = _SPAWN.Process(target=write, args=(folder, theirs), daemon=True)
    writer.start()
    try:
        ours.recv()
    except EOFError:
        return "not installed"
    finally:
        theirs.close()
    time.sleep(float(np.random.default_rng(seed).uniform(0, 0.5)))
    os.kill(writer.pid or 0, signal.SIGKILL)
    writer.join()
    ours, theirs = _SPAWN.Pipe()
    reader = _SPAWN.Process(target=_look, args=(folder, count, theirs), daemon=True)
    reader.start()
    theirs.close()
    try:
        return str(ours.recv())
    except EOFError:
        reader.join()
        return f"the reader ends with {reader.exitcode}"


def _look(folder: Path, count: Callable[[Path], int], connection: Any) -> None:
    try:
        rows = count(folder)
    except Exception as error:
        connection.send(f"refused ({type(error).__name__})")
    else:
        connection.send("whole" if rows > 0 and rows % 1000 == 0 else f"{rows} vectors")


def _vectors() -> np.ndarray:
    vectors = np.random.default_rng(0).standard_normal((ROWS, WIDTH), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _write_faiss(folder: Path, connection: Any) -> None:
    import faiss

    index = faiss.IndexFlatIP(WIDTH)
    index.add(_vectors())
    while True:
        faiss.write_index(index, str(folder / "index"))
        connection.send("written")


def _count_faiss(folder: Path) -> int:
    import faiss

    return int(faiss.read_index(str(folder / "index")).ntotal)


def _write_usearch(folder: Path, connection: Any) -> None:
    from usearch.index import Index

    index = Index(ndim=WIDTH, metric="ip", dtype="f16", expansion_add=32)
    index.add(np.arange(ROWS), _vectors(), threads=2)
    while True:
        index.save(str(folder / "index"))
        connection.send("written")


def _count_usearch(folder: Path) -> int:
    from usearch.index import Index

    index = Index.restore(str(folder / "index"))
    if index is None:
        raise ValueError("cannot be restored")
    index.search(_vectors()[:10], 10)
    return len(index)


def _write_lance(folder: Path, connection: Any) -> None:
    import lancedb
    import pyarrow as pa

    vectors = _vectors()
    schema = pa.schema([("row", pa.int64()), ("vector", pa.list_(pa.float32(), WIDTH))])
    table = lancedb.connect(folder).create_table("vectors", schema=schema)
    for start in range(0, 50 * ROWS, 1000):
        block = np.ascontiguousarray(vectors[start % ROWS : start % ROWS + 1000]).reshape(-1)
        columns = [pa.array(np.arange(start, start + 1000)), pa.FixedSizeListArray.from_arrays(block, WIDTH)]
        table.add(pa.table(columns, schema=schema))
        connection.send("written")


def _count_lance(folder: Path) -> int:
    import lancedb

    table = lancedb.connect(folder).open_table("vectors")
    table.search(_vectors()[0]).limit(5).to_arrow()
    return int(table.count_rows())


def _write_relook(folder: Path, connection: Any) -> None:
    from pipeline.types import GlobalDescriptors

    vectors, store = _vectors(), Relook(folder, _vectors())._open()
    for start in range(0, 50 * ROWS, 1000):
        ids = [f"{row:09d}" for row in range(start, start + 1000)]
        store.upsert(GlobalDescriptors(ids, vectors[start % ROWS : start % ROWS + 1000]), [{}] * 1000)
        connection.send("written")


def _count_relook(folder: Path) -> int:
    vectors = _vectors()
    store = Relook(folder, vectors)._open()
    store.query(vectors[:5], 10)
    return len(list(store.ids()))


WRITERS: dict[str, tuple[Callable[[Path, Any], None], Callable[[Path], int]]] = {
    "faiss": (_write_faiss, _count_faiss),
    "usearch": (_write_usearch, _count_usearch),
    "lancedb": (_write_lance, _count_lance),
    "relook ann": (_write_relook, _count_relook),
}
