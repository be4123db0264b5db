"""Keypoints of images whose other descriptors stay: photos are read again, the describer's network is not run.

Loads torch; the engine imports it where parts have no keypoints. Each part is a commit, and a run that was killed goes
on with the parts that are left.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pipeline.config import Config
from pipeline.describe import Described, Failed, describe_stream, keypoints_alone
from pipeline.stores import IndexWriter
from pipeline.stores.index.keypoint_store import EncodedKeypoints, encode, nothing_encoded
from pipeline.types import Describer, ImageRecord, KeypointExtractor
from pipeline.workflow.model_loading import read_options
from pipeline.workflow.progress import Reporter
from pipeline.workflow.stop import Stop

_CHANGED = "it has changed since it was described; run relook extract again"


def refresh_keypoints(
    writer: IndexWriter, extractor: KeypointExtractor, config: Config, reporter: Reporter, stop: Stop
) -> tuple[int, list[tuple[str, str, str]]]:
    """Find and commit the keypoints of every part without any, until `stop` has a reason.

    Returns:
        Images whose keypoints were found, and (id, path, reason) of those that could not be read, or are not the files
        that were described: they have no keypoints.
    """
    index = writer.index
    assert index is not None
    made, reader = index.manifest.keypoints, keypoints_alone(extractor, index.card)
    assert made is not None
    parts = index.without_keypoints()
    nothing = nothing_encoded(made.dimension, made.stored)
    failures: list[tuple[str, str, str]] = []
    done = 0
    with reporter.bar("keypoints", sum(part.rows - len(part.deleted) for part in parts), "images") as bar:
        for part in parts:
            records = {record.id: record for record in index.records_of(part)}
            found: dict[str, EncodedKeypoints] = {}
            failed: list[tuple[str, str, str]] = []
            for item in _read(reader, stop.until(records.values()), writer, config):
                bar.advance()
                reason = _problem(item, records[item.record.id])
                if isinstance(item, Failed) or reason:
                    failed.append((item.record.id, item.record.path, reason))
                elif item.description.keypoints is not None:
                    found[item.record.id] = encode(item.description.keypoints, made.stored)
            if stop.reason:
                break
            writer.add_keypoints(part, {**{name: nothing for name, _, _ in failed}, **found})
            done += len(found)
            failures += failed
    return done, failures


def _read(
    reader: Describer, records: Iterable[ImageRecord], writer: IndexWriter, config: Config
) -> Iterator[Described | Failed]:
    assert writer.index is not None
    return describe_stream(reader, records, writer.index.image_file, read_options(config))


def _problem(item: Described | Failed, record: ImageRecord) -> str:
    if isinstance(item, Failed):
        return item.reason
    return "" if item.record.sha256 == record.sha256 else _CHANGED
