"""The approximate indexes that `ann.py` compares, behind one face: build, save, open, search; and write for `--kill`.

A contender that stores vectors in fewer bits finds more candidates than requested, which are scored again from the
vectors, as the store of `store.kind: ann` does. LanceDB does so itself (`refine_factor`).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

CHUNK = 20_000


class Contender(ABC):
    """One kind of index over the rows of `vectors`, with one knob that buys recall for time."""

    knobs: ClassVar[tuple[float, ...]]

    def __init__(self, folder: Path, vectors: np.ndarray) -> None:
        self.folder, self.vectors, self.count = folder, vectors, len(vectors)
        folder.mkdir(parents=True, exist_ok=True)

    @abstractmethod
    def build(self) -> None:
        """Make the index and leave it in the folder."""

    @abstractmethod
    def open(self) -> None:
        """Open what `build` left, as another process."""

    @abstractmethod
    def search(self, query: np.ndarray, top_k: int, knob: float) -> np.ndarray:
        """Rows of the nearest."""

    def chunks(self) -> Any:
        """Rows and their vectors, in order."""
        for start in range(0, self.count, CHUNK):
            yield (
                np.arange(start, min(start + CHUNK, self.count)),
                np.ascontiguousarray(self.vectors[start : start + CHUNK]),
            )

    def rescored(self, query: np.ndarray, rows: np.ndarray, top_k: int) -> np.ndarray:
        """The best of some rows by their vectors."""
        rows = np.sort(rows[rows >= 0])
        return rows[np.argsort(-(self.vectors[rows] @ query), kind="stable")[:top_k]]


class Exact(Contender):
    """A product with every vector."""

    knobs = (1,)

    def build(self) -> None:
        """Nothing to make."""

    def open(self) -> None:
        """Into memory."""
        self.vectors = np.array(self.vectors)

    def search(self, query: np.ndarray, top_k: int, knob: float) -> np.ndarray:
        """See `Contender.search`."""
        scores = self.vectors @ query
        rows = np.argpartition(-scores, top_k)[:top_k]
        return rows[np.argsort(-scores[rows])]


class Faiss(Contender):
    """An inverted file or a graph of FAISS, by its factory string; lists are mapped, graphs are in memory."""

    knobs = (4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)

    def __init__(self, folder: Path, vectors: np.ndarray, factory: str, oversampling: float) -> None:
        super().__init__(folder, vectors)
        self.factory, self.oversampling = factory, oversampling
        self.graph = factory.startswith("HNSW")

    def build(self) -> None:
        """See `Contender.build`."""
        import faiss

        lists = round(2 * math.sqrt(self.count))
        factory = self.factory if self.graph else f"IVF{lists},{self.factory}"
        index = faiss.index_factory(self.vectors.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
        if self.graph:
            index.hnsw.efConstruction = 100
        else:
            index.cp.niter, index.cp.max_points_per_centroid, index.cp.spherical = 10, 64, True
            if hasattr(index, "pq"):
                index.pq.cp.niter = 10
            sample = np.random.default_rng(0).choice(self.count, min(self.count, 64 * lists), replace=False)
            index.train(np.ascontiguousarray(self.vectors[np.sort(sample)]))
        for _, block in self.chunks():
            index.add(block)
        faiss.write_index(index, str(self.folder / "index.faiss"))

    def open(self) -> None:
        """See `Contender.open`."""
        import faiss

        flags = 0 if self.graph else faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY
        self.index = faiss.read_index(str(self.folder / "index.faiss"), flags)
        if not self.graph:
            faiss.downcast_InvertedLists(self.index.invlists).prefetch_nthread = 0

    def search(self, query: np.ndarray, top_k: int, knob: float) -> np.ndarray:
        """See `Contender.search`; the knob is nprobe or efSearch."""
        if self.graph:
            self.index.hnsw.efSearch = int(knob)
        else:
            self.index.nprobe = int(knob)
        _, rows = self.index.search(query[None], round(top_k * self.oversampling))
        return rows[0] if self.oversampling == 1 else self.rescored(query, rows[0], top_k)


class Usearch(Contender):
    """A graph of usearch, mapped into memory; the knob is its expansion."""

    knobs = (64, 128, 192, 256, 384, 512, 768, 1024, 2048)

    def __init__(self, folder: Path, vectors: np.ndarray, dtype: str) -> None:
        super().__init__(folder, vectors)
        self.dtype = dtype

    def _new(self) -> Any:
        from usearch.index import Index

        return Index(ndim=self.vectors.shape[1], metric="ip", dtype=self.dtype, connectivity=16, expansion_add=100)

    def build(self) -> None:
        """See `Contender.build`."""
        index = self._new()
        for rows, block in self.chunks():
            index.add(rows, block, threads=1)
        index.save(str(self.folder / "index.usearch"))

    def open(self) -> None:
        """See `Contender.open`."""
        self.index = self._new()
        self.index.view(str(self.folder / "index.usearch"))

    def search(self, query: np.ndarray, top_k: int, knob: float) -> np.ndarray:
        """See `Contender.search`."""
        self.index.expansion_search = int(knob)
        found = self.index.search(query, top_k * 3 // 2, threads=1).keys
        return self.rescored(query, np.asarray(found, np.int64), top_k)


class Lance(Contender):
    """A table of LanceDB with an index; the knob is nprobes."""

    knobs = (5, 10, 20, 40, 80, 160, 320, 640)

    def __init__(self, folder: Path, vectors: np.ndarray, kind: str, refine: int | None) -> None:
        super().__init__(folder, vectors)
        self.kind, self.refine = kind, refine

    def build(self) -> None:
        """See `Contender.build`."""
        import lancedb
        import lancedb.index
        import pyarrow as pa

        width = self.vectors.shape[1]
        schema = pa.schema([("row", pa.int64()), ("vector", pa.list_(pa.float32(), width))])
        batches = (
            pa.record_batch(
                [pa.array(rows), pa.FixedSizeListArray.from_arrays(block.reshape(-1), width)], schema=schema
            )
            for rows, block in self.chunks()
        )
        reader = pa.RecordBatchReader.from_batches(schema, batches)
        table = lancedb.connect(self.folder).create_table("vectors", data=reader, schema=schema)
        config = getattr(lancedb.index, self.kind)
        table.create_index("vector", config=config(distance_type="dot", num_partitions=round(math.sqrt(self.count))))
        table.wait_for_index([index.name for index in table.list_indices()])

    def open(self) -> None:
        """See `Contender.open`."""
        import lancedb

        self.table = lancedb.connect(self.folder).open_table("vectors")

    def search(self, query: np.ndarray, top_k: int, knob: float) -> np.ndarray:
        """See `Contender.search`."""
        request = self.table.search(query).distance_type("dot").limit(top_k).nprobes(int(knob))
        request = request.refine_factor(self.refine) if self.refine else request
        return request.select(["row", "_distance"]).to_arrow()["row"].to_numpy()


class Relook(Contender):
    """`store.kind: ann` at its defaults, filled in batches of 1,000; it has no knob."""

    knobs = (1,)

    def _open(self) -> Any:
        from pipeline.stores import IndexWriter, open_store
        from pipeline.types import ModelCard

        card = ModelCard("none", "none", "none", {}, "", self.vectors.shape[1], 0)
        with IndexWriter(self.folder) as writer:
            writer.begin(card, {}, Path("/photos"), "parquet")
            return open_store("ann", writer.index)

    def build(self) -> None:
        """See `Contender.build`."""
        from pipeline.types import GlobalDescriptors

        store = self._open()
        for rows, block in self.chunks():
            for start in range(0, len(rows), 1000):
                some = slice(start, start + 1000)
                metadata = [{"label": f"{row % 500}", "path": f"{row}.jpg", "split": ""} for row in rows[some]]
                store.upsert(GlobalDescriptors([f"{row:09d}" for row in rows[some]], block[some]), metadata)
        print(f"    relook: {dict(store.stats())}", flush=True)

    def open(self) -> None:
        """See `Contender.open`."""
        self.store = self._open()

    def search(self, query: np.ndarray, top_k: int, knob: float) -> np.ndarray:
        """See `Contender.search`."""
        ((ids, _),) = self.store.query(query[None], top_k)
        return np.array([int(name) for name in ids])


CONTENDERS: Mapping[str, Callable[[Path, np.ndarray], Contender]] = {
    "exact": Exact,
    "faiss IVF-Flat": lambda folder, vectors: Faiss(folder, vectors, "Flat", 1),
    "faiss IVF-SQ8": lambda folder, vectors: Faiss(folder, vectors, "SQ8", 1.5),
    "faiss IVF-PQ64": lambda folder, vectors: Faiss(folder, vectors, "PQ64", 8),
    "faiss HNSW32": lambda folder, vectors: Faiss(folder, vectors, "HNSW32,Flat", 1),
    "usearch f16": lambda folder, vectors: Usearch(folder, vectors, "f16"),
    "usearch i8": lambda folder, vectors: Usearch(folder, vectors, "i8"),
    "lancedb IVF_FLAT": lambda folder, vectors: Lance(folder, vectors, "IvfFlat", None),
    "lancedb IVF_SQ": lambda folder, vectors: Lance(folder, vectors, "IvfSq", 2),
    "lancedb IVF_RQ": lambda folder, vectors: Lance(folder, vectors, "IvfRq", 10),
    "relook ann": Relook,
}
