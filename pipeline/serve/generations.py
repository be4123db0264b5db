"""Which generation of the index is searched: one is pinned, and a new one takes its place without a failed request.

Read by `engine` and `routes`. A generation that was replaced is closed when the last search of it has ended.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pipeline.config import Config
from pipeline.config.loading import with_values
from pipeline.errors import ImageError, RelookError, UsageError
from pipeline.rerank.registry import RERANKERS
from pipeline.serve.collection import Collection
from pipeline.types import IMPORTED
from pipeline.workflow.gallery import Gallery

logger = logging.getLogger("relook")

# Times that a newer generation is looked for, when each one is removed while it is opened.
_LOOKS = 5


class Pinned:
    """A generation in use.

    Attributes:
        gallery: with its store, its vectors, its describer and its rerankers loaded.
        collection: what filters and the page read of its catalog.
        default: the rerankers of a search that names none.
        rerankers: names that are offered, each with "" or with the reason why it cannot be used.
        reading: how uploaded photos are read: as the index was made, within the limits of the service.
    """

    def __init__(self, gallery: Gallery) -> None:
        self.gallery = gallery
        gallery.load_vectors()
        if gallery.index.card.name != IMPORTED:  # whose images alone can be searched with
            _ = gallery.describer
        self.default = tuple(step.name for step in gallery.chain())
        offered = gallery.config.serve.rerankers or tuple(RERANKERS)
        self.rerankers = {name: _reason_against(gallery, name) for name in offered}
        self.reading = _reading(gallery.config)
        self.collection = Collection(gallery)
        self._users, self._retired, self._lock = 0, False, threading.Lock()

    @property
    def number(self) -> int:
        """Of the generation."""
        return self.gallery.index.manifest.generation

    def acquire(self) -> None:
        """Keep it open until `release`."""
        with self._lock:
            self._users += 1

    def release(self) -> None:
        """The counterpart of `acquire`."""
        with self._lock:
            self._users -= 1
            done = self._retired and not self._users
        if done:
            self.gallery.close()

    def retire(self) -> None:
        """Close it as soon as nobody uses it."""
        with self._lock:
            self._retired = True
            done = not self._users
        if done:
            self.gallery.close()


class Generations:
    """The pinned generation, and a thread that looks for a new one.

    Args:
        gallery: the first one; `serve` of its configuration says how often a new one is looked for.

    Raises:
        RelookError: the store, the describer or the default rerankers cannot be used.
    """

    def __init__(self, gallery: Gallery) -> None:
        self._current, self._seconds = Pinned(gallery), gallery.config.serve.refresh
        self._lock, self._refreshing, self._stop = threading.Lock(), threading.Lock(), threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="generations", daemon=True)
        self.error = ""

    def start(self) -> None:
        """Begin to look for new generations."""
        self._watcher.start()

    def close(self) -> None:
        """Stop looking, and close the gallery when its last search has ended."""
        self._stop.set()
        if self._watcher.is_alive():
            self._watcher.join()
        self._current.retire()

    @property
    def current(self) -> Pinned:
        """The generation that new searches use."""
        return self._current

    def acquire(self) -> Pinned:
        """The generation that new searches use, kept open until its `release`."""
        with self._lock:
            self._current.acquire()
            return self._current

    @contextmanager
    def pinned(self) -> Iterator[Pinned]:
        """`acquire` and `release` around a block."""
        held = self.acquire()
        try:
            yield held
        finally:
            held.release()

    def refresh(self) -> bool:
        """Take the newest generation; False: it is in use already. Raises RelookError where it cannot be used."""
        with self._refreshing:
            before = self._current
            newest = before.gallery.newest()
            if newest is before.gallery:
                return False
            ready = Pinned(newest)
            with self._lock:
                self._current = ready
        before.retire()
        logger.info("serving generation %d, %d images", ready.number, len(newest))
        return True

    def replaced(self, pinned: Pinned, error: Exception) -> bool:
        """Whether what failed on a generation can be done again on a newer one, which is looked for at once.

        Only some earlier generations are kept: the files of one that is in use go when several runs follow quickly.
        """
        if not isinstance(error, RelookError | OSError) or isinstance(error, ImageError | UsageError | TimeoutError):
            return False
        for _ in range(_LOOKS):
            if self._current is not pinned:
                break
            with suppress(RelookError, OSError):  # that one was removed meanwhile, too
                if not self.refresh():  # or the thread that looks for them has just taken it
                    break
        newer = self._current is not pinned
        if newer:
            logger.info("done again on generation %d: %s", self._current.number, error)
        return newer

    def _watch(self) -> None:
        while not self._stop.wait(self._seconds):
            try:
                self.refresh()
                self.error = ""
            except Exception as error:  # whatever it is, the generation that is in use stays
                if str(error) != self.error:
                    logger.warning("the newest generation cannot be used, the one before stays: %s", error)
                self.error = str(error) or type(error).__name__


def _reading(config: Config) -> Config:
    limits, own = config.describe.image, config.serve
    values = {
        "describe.image.max_bytes": min(limits.max_bytes, own.max_bytes),
        "describe.image.max_pixels": min(limits.max_pixels, own.max_pixels),
        "extract.decode_seconds": own.decode_seconds,
    }
    return with_values(config, values, "serve")


def _reason_against(gallery: Gallery, name: str) -> str:
    try:
        gallery.chain([name])
    except RelookError as error:
        return str(error)
    return ""
