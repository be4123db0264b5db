"""Pinecone's own import of an index's Parquet parts from object storage, for collections too large to push.

Below the Pinecone store. The service reads PREFIX/NAMESPACE/*.parquet, with the columns that parts of globals have;
what an import cannot know, such as deleted rows, is put right by the upload that follows it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from pipeline.errors import RelookError
from pipeline.stores.index.directory import Index
from pipeline.stores.pinecone.ids import stored_id
from pipeline.stores.pinecone.service import RemoteIndex

_PAUSES = (0.1, 10.0)
_RUNNING = ("Pending", "InProgress")


def import_parts(
    index: Index, remote: RemoteIndex, namespace: str, uri: str, seconds: float, tick: Callable[[float], None]
) -> None:
    """Import `uri` and wait for it. What an earlier run began is waited for; what it completed is not done again.

    Args:
        index: whose parts were copied there.
        remote: the Pinecone index.
        namespace: the folder below `uri`, and where the records go.
        uri: "gs://..." or "s3://...".
        seconds: how long it may take.
        tick: told the percentage that is done.

    Raises:
        RelookError: the import cannot be done, failed, or is not done in time.
    """
    jobs = [job for job in remote.client.list_imports() if job.uri == uri]
    running = next((job for job in jobs if job.status in _RUNNING), None)
    counts = remote.client.describe_index_stats().namespaces
    if running is None and namespace in counts:
        if any(job.status == "Completed" for job in jobs):
            return
        raise RelookError(f"namespace {namespace} exists; Pinecone imports into new ones only: upload without --bulk")
    if running is None:
        _check(index, remote)
    number = running.id if running else remote.client.start_import(uri).id
    began, pause = time.monotonic(), _PAUSES[0]
    while True:
        job = remote.client.describe_import(number)
        tick(job.percent_complete or 0.0)
        if job.status == "Completed":
            break
        if job.status not in _RUNNING:
            hint = f"its parts belong in {uri.rstrip('/')}/{namespace}/"
            raise RelookError(f"import {number} of {uri}: {job.status} ({job.error}); {hint}")
        if time.monotonic() - began > seconds:
            raise RelookError(f"import {number} of {uri}: not done after {seconds:g} s; the same command waits on")
        time.sleep(pause)
        pause = min(2 * pause, _PAUSES[1])
    if namespace not in remote.client.describe_index_stats().namespaces:
        raise RelookError(f"import {number} of {uri}: brought no namespace {namespace}; copy globals/*.parquet there")


def _check(index: Index, remote: RemoteIndex) -> None:
    """Whether the parts can be imported as they are."""
    if not remote.imports_parquet:
        raise RelookError(
            "Pinecone imports Parquet into indexes of vectors, and this one holds documents; upload without --bulk, "
            "or set store.pinecone.name to one that --bulk may make"
        )
    if index.manifest.tables != "parquet":
        raise RelookError(f"{index.directory}: its tables are CSV; Pinecone imports Parquet: upload without --bulk")
    for part in index.manifest.parts:
        for name in index.ids_of(part):
            if stored_id(name) != name:
                raise RelookError(
                    f"the id {name!r} cannot be imported as it is (ASCII, at most 512): upload without --bulk"
                )
