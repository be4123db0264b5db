"""Inverted lists of the local ann store: FAISS files that are written once and mapped into memory.

Below `store.py`. K-means puts vectors into lists (IVF: Jégou, Douze, Schmid, PAMI 2011), in which they are stored with
one byte per dimension. The lists only say which vectors may be near: the candidates are scored again from the vectors
themselves, which `records.py` reads.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from pipeline.errors import RelookError
from pipeline.files import atomic_path, sha256_of, write_errors
from pipeline.types import FloatArray

Rows = npt.NDArray[np.int64]

# Lists for N vectors: this times the root of N. Twice as many take four times as long to train and search no faster.
_LISTS = 2.0
# Vectors per list in the training sample of k-means, and its iterations.
POINTS = 64
_ROUNDS = 10
_DEVIATIONS = 4.0
# The range of a byte reaches so far beyond that of the sample, on either side. It is that of the vectors and not of
# their differences from a centre: those of vectors of another kind, added later, would lie far outside.
_MARGIN = 0.1


class MissingListsError(RelookError):
    """A file of lists is missing: another process replaced it, or it was removed."""


class _Stored(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ListsFile(_Stored):
    """A file beside the database: its name, its length and the SHA-256 that it must have."""

    name: str
    bytes: int
    sha256: str


class Segment(_Stored):
    """Inverted lists of the rows from `first` to `last` that existed when it was written: `rows` of them."""

    file: ListsFile
    first: int
    last: int
    rows: int


class ListsState(_Stored):
    """Which inverted lists belong to the records.

    Attributes:
        model: the trained lists, without rows; None while every vector is compared.
        segments: in the order of their rows.
        trained: number of vectors when the lists were trained.
        measured: number of vectors when `probes` was measured.
        probes: lists to visit for the nearest 100 and the nearest 1,000 (`recall.py`).
        recall: share of the nearest 100 that the former found, in a sample.
        lists: number of lists.
    """

    model: ListsFile | None = None
    segments: tuple[Segment, ...] = ()
    trained: int = 0
    measured: int = 0
    probes: tuple[int, int] = (0, 0)
    recall: float = 1.0
    lists: int = 0

    @property
    def covered(self) -> int:
        """The last row that is in a list; those after it are compared one by one."""
        return self.segments[-1].last if self.segments else 0

    @property
    def listed(self) -> int:
        """Number of rows in the lists, dead ones included."""
        return sum(segment.rows for segment in self.segments)

    @property
    def files(self) -> list[ListsFile]:
        """Every file that belongs to this state."""
        return [*([self.model] if self.model else []), *(segment.file for segment in self.segments)]


class Lists:
    """The segments of one state, opened for searching.

    Args:
        folder: of their files.
        state: with at least one segment.

    Attributes:
        error: how far a score by the codes may be from the cosine.

    Raises:
        RelookError: a file is damaged.
        MissingListsError: a file is missing.
    """

    def __init__(self, folder: Path, state: ListsState) -> None:
        self._files = [(folder / segment.file.name, segment.file) for segment in state.segments]
        self._segments = [_mapped(folder, segment) for segment in state.segments]
        steps = load_faiss().vector_to_array(self._segments[0].sq.trained).reshape(2, -1)[1] / 255
        # The difference between a score by the code and that of the vector: D errors of rounding to a step, each times
        # a value of a query of length 1, and those of a sum in float32. It is seldom above four standard deviations.
        deviation = math.sqrt(float(np.square(steps, dtype=np.float64).mean()) / 12)
        self.error = _DEVIATIONS * deviation + 2 * (len(steps) + 2) * float(np.finfo(np.float32).eps)

    def search(
        self, queries: FloatArray, count: int, probes: int, among: npt.NDArray[np.uint8] | None
    ) -> tuple[FloatArray, Rows]:
        """Rows that may be nearest.

        Args:
            queries: [Q, D] float32 of unit length.
            count: number of rows per query.
            probes: lists to visit.
            among: one bit per row, least significant first: the rows to search; None: all.

        Returns:
            Scores by the codes, descending, and rows, both [Q, count]; where there are fewer, rows are -1 at the end.

        Raises:
            RelookError: a file was cut since it was opened, or cannot be read.
            MissingListsError: a file was removed.
        """
        faiss = load_faiss()
        selector = None if among is None else faiss.IDSelectorBitmap(among)
        parameters = faiss.SearchParametersIVF(nprobe=probes, sel=selector)
        found = []
        for segment, (path, file) in zip(self._segments, self._files, strict=True):
            _check_length(path, file)
            try:
                found.append(_search_of(segment)(queries, count, params=parameters))
            except RuntimeError as error:
                raise _damaged(path, str(error)) from None
        if len(found) == 1:
            scores, rows = found[0]
            return scores, rows
        scores, rows = (np.concatenate(arrays, axis=1) for arrays in zip(*found, strict=True))
        order = np.argsort(-np.where(rows < 0, -np.inf, scores), axis=1, kind="stable")[:, :count]
        return np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)

    def assigned(self, vectors: FloatArray) -> Rows:
        """The list [n] that each of `vectors` [n, D] lies in."""
        _, lists = self._segments[0].quantizer.search(vectors, 1)
        return np.asarray(lists[:, 0], np.int64)

    def order(self, queries: FloatArray) -> Rows:
        """All lists [Q, lists] in the order in which each query would visit them."""
        _, lists = self._segments[0].quantizer.search(queries, int(self._segments[0].nlist))
        return np.asarray(lists, np.int64)


def train(sample: FloatArray, count: int) -> Any:
    """Empty lists for `count` vectors, their centres trained on `sample` [n, D] float32."""
    faiss = load_faiss()
    dimension = sample.shape[1]
    number = min(lists_for(count), len(sample))
    centres = faiss.IndexFlatIP(dimension)
    lists = faiss.IndexIVFScalarQuantizer(
        centres, dimension, number, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT, False
    )
    lists.sq.rangestat_arg = _MARGIN
    lists.cp.niter, lists.cp.max_points_per_centroid, lists.cp.min_points_per_centroid = _ROUNDS, POINTS, 1
    lists.cp.spherical = True
    lists.train(np.ascontiguousarray(sample))
    return lists


def lists_for(count: int) -> int:
    """Number of lists for `count` vectors."""
    return max(1, round(_LISTS * math.sqrt(count)))


def fill(lists: Any, chunks: Iterable[tuple[Rows, FloatArray]]) -> Any:
    """Add rows with their vectors to trained lists; returns these."""
    for rows, vectors in chunks:
        lists.add_with_ids(np.ascontiguousarray(vectors), rows)
    return lists


def merge(lists: Any, folder: Path, segments: Sequence[Segment], dead: Rows) -> Any:
    """Add the rows of `segments` except the `dead` ones to `lists`, which it returns; all of them are in memory."""
    faiss = load_faiss()
    for segment in segments:
        lists.merge_from(read(folder, segment.file), 0)
    if len(dead):
        lists.remove_ids(faiss.IDSelectorBatch(dead))
    return lists


def read(folder: Path, file: ListsFile) -> Any:
    """Lists of a file, in memory. Raises RelookError when its content is not what was written."""
    path = folder / file.name
    _check_content(path, file)
    return load_faiss().read_index(str(path))


def damaged_files(folder: Path, state: ListsState) -> list[str]:
    """The files of a state whose content is not what was written, one line each with the remedy."""
    lines = []
    for file in state.files:
        try:
            _check_content(folder / file.name, file)
        except RelookError as error:
            lines.append(str(error))
    return lines


def write(folder: Path, name: str, lists: Any) -> ListsFile:
    """Write lists to a new file, flushed to disk."""
    path = folder / name
    with write_errors(path), atomic_path(path) as temporary:
        try:
            load_faiss().write_index(lists, str(temporary))
        except RuntimeError as error:  # FAISS raises this on a full disk
            raise RelookError(f"{path}: cannot be written ({' '.join(str(error).split())})") from None
        return ListsFile(name=name, bytes=temporary.stat().st_size, sha256=sha256_of(temporary))


def load_faiss() -> Any:
    """The library. Raises RelookError where it is not installed."""
    try:
        import faiss
    except ImportError as error:
        raise RelookError(
            f"store.kind = ann needs FAISS ({error}); install it with: pip install 'relook[ann]'"
        ) from None
    return faiss


def _mapped(folder: Path, segment: Segment) -> Any:
    """A segment whose lists stay on disk until they are read."""
    faiss = load_faiss()
    path = folder / segment.file.name
    _check_length(path, segment.file)
    try:
        lists = faiss.read_index(str(path), faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY)
    except RuntimeError as error:
        raise _damaged(path, str(error)) from None
    if lists.ntotal != segment.rows:
        raise _damaged(path, f"{lists.ntotal} vectors instead of {segment.rows}")
    # Threads that read ahead cost more than the search itself where the file is in the page cache.
    faiss.downcast_InvertedLists(lists.invlists).prefetch_nthread = 0
    return lists


def _check_length(path: Path, file: ListsFile) -> None:
    """A file that is mapped beyond its end would end the process when that is read."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise MissingListsError(str(_damaged(path, "missing"))) from None
    if size != file.bytes:
        raise _damaged(path, f"{size} bytes instead of {file.bytes}")


def _check_content(path: Path, file: ListsFile) -> None:
    _check_length(path, file)
    if sha256_of(path) != file.sha256:
        raise _damaged(path, "its checksum differs")


def _damaged(path: Path, reason: str) -> RelookError:
    reason = " ".join(reason.split())
    return RelookError(f"{path}: damaged ({reason}); rebuild it with: relook verify --store ann --repair")


def _search_of(segment: Any) -> Any:
    """FAISS's own `search`: its module for torch, which other libraries import, replaces it by one without
    parameters, and keeps the original under this name."""
    return getattr(segment, "search_numpy", segment.search)
