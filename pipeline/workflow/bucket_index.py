"""An index in a bucket, as verbs use it: a copy on this disk that is read, or one that is written and published.

Searches need files that are mapped into memory, and writing needs locks and renames: a bucket has neither. So verbs
that read get a copy that follows the bucket, and `extract` and `reindex` work on a copy of their own, which they
publish when they end. Both lie in the cache of this machine; removing them loses nothing but time.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.config import Config
from pipeline.errors import LockedError
from pipeline.faults import fault_point
from pipeline.files import ObjectPath, exclusive_lock, object_path, write_bytes, write_errors
from pipeline.stores.index.manifest import NAME, STAGED, read_manifest
from pipeline.stores.index.published import PublishedIndex, Version, digest_of, published_form
from pipeline.stores.index.shards import FOLDER
from pipeline.workflow.stop import Stop

logger = logging.getLogger("relook")

# What the copy that is written was derived from: the digest of the bucket's index.json, and of the one that was about
# to take its place, in case that nobody heard whether it did.
_STATE = "published.json"
_PAUSE = 0.5


def local_copy(config: Config) -> Config:
    """A configuration whose index is on this disk: one in a bucket is fetched first, as far as it is not here.

    Raises:
        RelookError: there is no index, a file of it is missing or damaged, or the store cannot be used; with the copy
            of an earlier generation left as it was.
    """
    place = object_path(config.index)
    if place is None:
        return config
    directory = copy_folder(place, "read")
    with waiting_lock(directory, place):
        manifest = PublishedIndex(place).fetch(directory)
    logger.debug("%s: generation %d is in %s", place, manifest.generation, directory)
    return config.model_copy(update={"index": directory})


@contextmanager
def working_copy(config: Config) -> Iterator[Config]:
    """A configuration whose index can be written to; one in a bucket is published when the block ends without an error.

    What an earlier run did here and could not publish is in it, unless another run has published since.

    Raises:
        LockedError: a run on this machine writes to the same index; or one on another machine has published meanwhile,
            and nothing of this run is in the bucket.
        RelookError: the bucket cannot be read or written.
    """
    place = object_path(config.index)
    if place is None:
        yield config
        return
    directory = copy_folder(place, "write")
    with exclusive_lock(directory.with_suffix(".lock"), f"{place}: another run on this machine writes to it"):
        bucket = PublishedIndex(place)
        version = bucket.version()
        _bring_up_to_date(bucket, directory, version)
        yield config.model_copy(update={"index": directory})
        if (directory / NAME).exists():
            _publish(bucket, directory, version)


def shown_index(config: Config) -> str:
    """The index as results name it: a directory, or the URL."""
    return str(object_path(config.index) or config.index)


def cache_folder() -> Path:
    """Where copies lie: relook/indexes in the folder of caches, which XDG_CACHE_HOME names."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "relook" / "indexes"


def copy_folder(place: ObjectPath, use: str) -> Path:
    """Where a copy for one `use` lies."""
    key = hashlib.sha256(f"{place.url}\0{place.server}".encode()).hexdigest()[:12]
    return cache_folder() / f"{place.bucket}-{place.name or 'index'}-{key}" / use


@contextmanager
def waiting_lock(directory: Path, place: ObjectPath, stop: Stop | None = None) -> Iterator[None]:
    """Another process of this machine that uses the same copy is waited for, unless `stop` has a reason.

    Raises LockedError where it has.
    """
    waited = False
    while True:
        lock = exclusive_lock(directory.with_suffix(".lock"), f"{place}: another process of this machine uses its copy")
        try:
            lock.__enter__()
            break
        except LockedError as error:
            if stop is not None and stop.reason:
                raise
            if not waited:
                logger.info("%s; waiting for it", error)
            waited = True
            time.sleep(_PAUSE)
    try:
        yield
    finally:
        lock.__exit__(None, None, None)


def _bring_up_to_date(bucket: PublishedIndex, directory: Path, version: Version | None) -> None:
    """Leave the copy as it is where it follows from what the bucket has; otherwise fetch that."""
    if version is None or version.digest in _derived_from(directory):
        return
    if (directory / NAME).exists():
        ours = digest_of(published_form(read_manifest(directory)))
        if ours != _base(directory):
            logger.warning(
                "%s: another run has published since the last one of this machine, whose unpublished work is dropped; "
                "what it described is described again",
                bucket.place,
            )
    with write_errors(directory):
        (directory / STAGED).unlink(missing_ok=True)
        shutil.rmtree(directory / FOLDER, ignore_errors=True)
    bucket.fetch(directory, version.content)
    _write_state(directory, version.digest, None)


def _publish(bucket: PublishedIndex, directory: Path, version: Version | None) -> None:
    manifest = read_manifest(directory)
    ours = digest_of(published_form(manifest))
    if version is not None and version.digest == ours:
        _write_state(directory, ours, None)
        return
    _write_state(directory, version.digest if version else None, ours)
    try:
        bucket.publish(directory, manifest, version)
    except LockedError:
        raise LockedError(
            f"{bucket.place}: another run has published a generation since this one began, so this one is not "
            "published; run it again: it begins with that generation"
        ) from None
    _write_state(directory, ours, None)
    logger.info("%s: generation %d is published", bucket.place, manifest.generation)


def _derived_from(directory: Path) -> set[str]:
    state = _state(directory)
    return {state[key] for key in ("base", "next") if state.get(key)}


def _base(directory: Path) -> str | None:
    return _state(directory).get("base")


def _state(directory: Path) -> dict[str, str]:
    try:
        state = json.loads((directory / _STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # none, or cut off: then what the bucket has is fetched
        return {}
    return state if isinstance(state, dict) else {}


def _write_state(directory: Path, base: str | None, following: str | None) -> None:
    with write_errors(directory / _STATE):
        write_bytes(directory / _STATE, json.dumps({"base": base, "next": following}).encode())
    fault_point("noted")
