"""`extract`: photos to descriptors in an index directory.

First verb of the flow. Brings the index to the state of the photos: new and changed ones are described, those that are
gone are deleted, the rest is left alone. Decoding, the network and the writing of parts overlap.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.catalog import load_catalog
from pipeline.config import Config
from pipeline.stores import IndexWriter
from pipeline.stores.registry import table_format
from pipeline.workflow.indexing.changes import find_changes
from pipeline.workflow.indexing.extraction import describe_changes, fit, nothing_readable
from pipeline.workflow.model_loading import new_describer
from pipeline.workflow.progress import Reporter, Silent
from pipeline.workflow.requested_model import requested_model
from pipeline.workflow.stop import Stop


@dataclass(frozen=True)
class ExtractResult:
    """What an extraction did; counts are of images."""

    index: str
    generation: int
    images: int
    added: int
    changed: int
    moved: int
    relabelled: int
    removed: int
    failed: int
    ignored: int
    seconds: float
    weights: str

    def to_json(self) -> dict[str, Any]:
        """Plain values, for `--json` and the run's report."""
        return asdict(self)


def extract(config: Config, images: str, reporter: Reporter | None = None) -> ExtractResult:
    """Describe a collection.

    Args:
        config: `index`, `describe`, `extract` and `store.kind` matter here.
        images: a folder, a manifest, or NAME:FOLDER of a data set.
        reporter: told about the progress.

    Raises:
        LockedError: another run is writing to the index.
        RelookError: there are no images, none can be read, or the index is of another model.
    """
    started = time.monotonic()
    reporter = reporter or Silent()
    catalog = load_catalog(images, config.catalog.labels, config.catalog.outside)
    describer = new_describer(config)
    with IndexWriter(config.index) as writer:
        known = writer.index.records if writer.index else {}
        if describer.to_fit and writer.index:
            describer.use_fitted(writer.index.fitted())
        if describer.to_fit:
            fit(describer, catalog, config, reporter)
        tables = table_format(config.store.kind)
        writer.begin(describer.card, describer.fitted(), catalog.root, tables, requested_model(config))
        changes = find_changes(catalog, known)
        writer.revise(changes.revised, changes.replaced)
        done = describe_changes(writer, describer, changes, config, reporter, Stop())
        failures = [*catalog.failed, *done.failures]
        if len(failures) == len(catalog) + len(catalog.failed):
            _, path, reason = failures[-1]
            raise nothing_readable(len(catalog), path, reason)
        writer.delete(changes.removed)
        writer.complete(config.reindex.keep)
        writer.write_failures(failures)
        index = writer.index
        assert index is not None
        result = ExtractResult(
            index=str(config.index),
            generation=index.manifest.generation,
            images=index.manifest.counts["images"],
            added=done.added,
            changed=done.changed,
            moved=changes.moved,
            relabelled=changes.relabelled,
            removed=len(changes.removed | changes.replaced),
            failed=len(failures),
            ignored=catalog.ignored,
            seconds=round(time.monotonic() - started, 2),
            weights=index.card.weights,
        )
        writer.write_report("extract", result.to_json())
    return result
