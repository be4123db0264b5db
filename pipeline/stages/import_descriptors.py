"""`import`: descriptors that another program made, into an index directory.

In the place of extract. The model card says that the weights are not known here, so that queries of another describer
are never compared with imported descriptors. What the source lacks is computed only as the card says.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.catalog import load_catalog
from pipeline.config import Config
from pipeline.errors import RelookError
from pipeline.files import Place
from pipeline.stores import IndexWriter
from pipeline.stores.exchange import ExternalImage, ExternalSource, Options, open_external
from pipeline.stores.exchange.base import peek, unit_vector
from pipeline.stores.registry import table_format
from pipeline.types import IMPORTED, Description, FloatArray, ImageRecord, ModelCard
from pipeline.workflow.progress import Reporter, Silent

__all__ = ["ImportResult", "Options", "import_descriptors"]

# A part is closed when its descriptors take so much memory, however few images it has.
_PART_BYTES = 256 << 20


@dataclass(frozen=True)
class ImportResult:
    """What an import did.

    Attributes:
        index, generation: the directory, and its generation after the import.
        format: of the source.
        images: of the source; all of them are in the index now.
        replaced: how many of them were in the index before.
        unmatched: how many are not among `--images`, and have neither path nor label.
        dimension, local_dimension: of the descriptors; 0 where there are no local ones.
        globals: "given", or "mean of local descriptors" where the source has none.
        fingerprint: of the model card.
        seconds: of the run.
    """

    index: str
    generation: int
    format: str
    images: int
    replaced: int
    unmatched: int
    dimension: int
    local_dimension: int
    globals: str
    fingerprint: str
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def import_descriptors(
    config: Config,
    source: Path,
    format: str = "auto",
    options: Options | None = None,
    images: str | None = None,
    model: str | None = None,
    normalise: bool = False,
    reporter: Reporter | None = None,
) -> ImportResult:
    """Write descriptors of another program into `config.index`; images that are there already are replaced.

    Args:
        config: `index`, `catalog`, `extract.part_size` and `store.kind` matter here.
        source, format, options: see `open_external`.
        images: a folder, a manifest or NAME:FOLDER that has paths and labels of the ids.
        model: the name of what made the descriptors; imports with the same name may share an index.
        normalise: divide global descriptors by their lengths.
        reporter: told about the progress.

    Raises:
        RelookError: the source is damaged, duplicate ids, a vector is not of unit length, only some images have
            local descriptors, or the index is of another model.
    """
    started = time.monotonic()
    foreign = open_external(source, format, options or Options())
    first, rest = peek(foreign.images, source)
    known, root = _known_images(config, images, source)
    card = _card(source, foreign, first, model)
    with IndexWriter(config.index) as writer:
        before = set(writer.index.records) if writer.index else set()
        writer.begin(card, {}, root, table_format(config.store.kind))
        seen: set[str] = set()
        unmatched = 0
        with (reporter or Silent()).bar("import", 0, "images") as bar:
            for part in _parts(rest, card, normalise, config.extract.part_size):
                _refuse_duplicates(part, seen)
                records = [known.get(item.id) or ImageRecord(item.id, item.id, item.label) for item, _ in part]
                writer.add(records, [description for _, description in part])
                unmatched += sum(item.id not in known for item, _ in part) if images is not None else 0
                bar.advance(len(part))
        index = writer.index
        assert index is not None
        result = ImportResult(
            index=str(config.index),
            generation=index.manifest.generation,
            format=foreign.format,
            images=len(seen),
            replaced=len(seen & before),
            unmatched=unmatched,
            dimension=card.dimension,
            local_dimension=card.local_dimension,
            globals=card.settings["imported"]["globals"],
            fingerprint=card.fingerprint,
            seconds=round(time.monotonic() - started, 2),
        )
        writer.write_report("import", result.to_json())
    return result


def _known_images(config: Config, images: str | None, source: Path) -> tuple[Mapping[str, ImageRecord], Place]:
    """Records by id, and the folder that paths start from."""
    if images is None:
        return {}, source.resolve() if source.is_dir() else source.resolve().parent
    catalog = load_catalog(images, **config.catalog.options)
    return {record.id: record for record in catalog}, catalog.root


def _card(source: Path, foreign: ExternalSource, first: ExternalImage, model: str | None) -> ModelCard:
    """The card of the import; without a `model` only another import of the same source has the same card."""
    width = 0 if first.locals is None else first.locals.descriptors.shape[1]
    given = first.vector is not None
    local: dict[str, Any] = {"kind": "imported", "geometry": True, "projection": None}
    if foreign.scales is not None:
        local["scales"] = list(foreign.scales)
    settings: dict[str, Any] = {
        "imported": {"format": foreign.format, "globals": "given" if given else "mean of local descriptors"},
    }
    if width:
        settings["locals"] = local
    return ModelCard(
        name=IMPORTED,
        architecture="not known",
        weights=f"not known here; made by {model}" if model else f"not known here; imported from {source.resolve()}",
        settings=settings,
        fitted="",
        dimension=width if first.vector is None else len(first.vector),
        local_dimension=width,
    )


def _parts(
    images: Iterator[ExternalImage], card: ModelCard, normalise: bool, part_size: int
) -> Iterator[list[tuple[ExternalImage, Description]]]:
    part: list[tuple[ExternalImage, Description]] = []
    size = 0
    for image in images:
        description = _description(image, card, normalise)
        part.append((replace(image, vector=None, locals=None), description))
        size += description.vector.nbytes + (0 if image.locals is None else image.locals.descriptors.nbytes)
        if len(part) == part_size or size >= _PART_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


def _description(image: ExternalImage, card: ModelCard, normalise: bool) -> Description:
    """What goes into the index. Raises RelookError where an image differs from the first one in what it has."""
    given = card.settings["imported"]["globals"] == "given"
    if (image.vector is not None) != given:
        raise RelookError(f"{image.where}: has {'no' if given else 'a'} global descriptor, unlike the first image")
    if (image.locals is not None) != bool(card.local_dimension):
        has = "no" if image.locals is None else "some"
        raise RelookError(f"{image.where}: has {has} local descriptors, unlike the first image")
    local = image.locals
    if local is not None and not len(local):
        local = replace(local, descriptors=np.zeros((0, card.local_dimension), np.float32))
    if local is not None and local.descriptors.shape[1] != card.local_dimension:
        found = local.descriptors.shape[1]
        raise RelookError(f"{image.where}: local descriptors of {found} values, the first has {card.local_dimension}")
    vector = _mean(image) if image.vector is None else unit_vector(image.vector, image.where, normalise)
    if len(vector) != card.dimension:
        raise RelookError(f"{image.where}: {len(vector)} values, the first has {card.dimension}")
    return Description(vector, local)


def _mean(image: ExternalImage) -> FloatArray:
    """The direction of the sum of the local descriptors, for a source without global ones."""
    if image.locals is None or not len(image.locals):
        raise RelookError(f"{image.where}: has neither a global descriptor nor local ones")
    return unit_vector(image.locals.descriptors.mean(axis=0), image.where, normalise=True)


def _refuse_duplicates(part: list[tuple[ExternalImage, Description]], seen: set[str]) -> None:
    for image, _ in part:
        if not image.id:
            raise RelookError(f"{image.where}: its id is empty")
        if image.id in seen:
            raise RelookError(f"{image.where}: duplicate id {image.id!r}; ids must be unique")
        seen.add(image.id)
