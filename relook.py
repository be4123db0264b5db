"""relook in Python: open an index and search it, describe photos, load a describer or a reranker by itself.

    import relook

    gallery = relook.open("relook-index")
    hits = gallery.search("photo.jpg", top_k=5)

Everything is loaded when it is first needed: importing this module loads neither torch nor pandas. docs/python-api.md
shows each call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import __version__
from pipeline.errors import ImageError, LockedError, RelookError, UsageError

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.describe.describer import NetworkDescriber
    from pipeline.types import Reranker
    from pipeline.workflow.gallery import Gallery
    from pipeline.workflow.hits import Hit, Hits
    from pipeline.workflow.indexing.engine import SyncSummary

__all__ = [
    "Gallery",
    "Hit",
    "Hits",
    "ImageError",
    "LockedError",
    "RelookError",
    "UsageError",
    "__version__",
    "extract",
    "list_describers",
    "list_rerankers",
    "load_describer",
    "load_reranker",
    "open",
]

_CLASSES = {
    "Gallery": "pipeline.workflow.gallery",
    "Hit": "pipeline.workflow.hits",
    "Hits": "pipeline.workflow.hits",
}


def open(  # as in `relook.open`
    path: str | Path = "relook-index",
    *,
    store: str | Mapping[str, Any] | None = None,
    rerank: str | Sequence[str] | Mapping[str, Any] | None = None,
    device: str | None = None,
    config: str | Path | None = None,
    **settings: Any,
) -> Gallery:
    """Open an index for searching.

    Args:
        path: the index directory, or s3://BUCKET/INDEX of one in a bucket, which is fetched into a cache.
        store: where candidates come from: table, csv, ann or pinecone; or the section `store` of the configuration.
        rerank: rerankers that are applied unless a search names others, "superglobal" or "a,b" or a list, "none" for
            none; or the section `rerank`. None: those that the configuration or the index names.
        device: auto, cpu or cuda.
        config: a YAML file of settings, below what is given here.
        settings: other sections and keys of the configuration, such as search={"top_k": 20}.

    Returns:
        One generation of the index. The store, the describer and the rerankers load when they are first needed.

    Raises:
        UsageError: a setting is unknown, or its value is of the wrong type.
        RelookError: there is no index, it is damaged, or it has no images.
    """
    from pipeline.workflow.gallery import Gallery

    given = {"index": str(path), "store": store, "rerank": rerank, "device": device, **settings}
    return Gallery(_config(config, given))


def extract(
    images: str | Path,
    index: str | Path = "relook-index",
    *,
    store: str | Mapping[str, Any] | None = None,
    device: str | None = None,
    config: str | Path | None = None,
    **settings: Any,
) -> SyncSummary:
    """Bring an index to the state of photos: new and changed ones are described, those that are gone are deleted.

    Args:
        images: a folder, a manifest, or NAME:FOLDER of a data set.
        index: the index directory, or s3://BUCKET/INDEX; made if it is not there.
        store, device, config, settings: see `open`; for example describe={"image": {"size": 224}}.

    Returns:
        What was done, in counts of images.

    Raises:
        LockedError: another run is writing to the index.
        UsageError: a setting is unknown, or its value is of the wrong type.
        RelookError: there are no images, none can be read, or the index is of another model.
    """
    from pipeline.config import expand_argument
    from pipeline.stages.extract import extract as stage

    given = {"index": str(index), "store": store, "device": device, **settings}
    return stage(_config(config, given), expand_argument(str(images)))


def list_describers() -> list[str]:
    """Names for `load_describer`: the packaged network and the published models. Every timm model's name works, too."""
    from pipeline.describe.presets import PRESETS

    return sorted({"efficientnet_lite0", *PRESETS})


def list_rerankers() -> list[str]:
    """Names for `load_reranker` and for `rerank`."""
    from pipeline.rerank.registry import RERANKERS

    return sorted(RERANKERS)


def load_describer(
    name: str, checkpoint: str | Path | None = None, device: str = "cpu", **options: Any
) -> NetworkDescriber:
    """Build a describer; see `pipeline.describe.load_describer`."""
    from pipeline.describe import load_describer as load

    return load(name, checkpoint, device, **options)


def load_reranker(name: str, checkpoint: str | Path | None = None, device: str = "cpu", **options: Any) -> Reranker:
    """Build a reranker; see `pipeline.rerank.load_reranker`."""
    from pipeline.config import expand_argument
    from pipeline.rerank import load_reranker as load

    return load(name, checkpoint and expand_argument(str(checkpoint)), device, **options)


def _config(file: str | Path | None, given: Mapping[str, Any]) -> Config:
    """The settings of a call over those of a file; a store or rerankers may be given by their names alone."""
    from pipeline.config import load_config, parse_chain
    from pipeline.config.loading import with_values

    values = {key: value for key, value in given.items() if value is not None}
    if isinstance(values.get("store"), str):
        values["store"] = {"kind": values["store"]}
    if "rerank" in values and not isinstance(values["rerank"], Mapping):
        values["rerank"] = {"chain": list(parse_chain(values["rerank"], "rerank ="))}
    return with_values(load_config(Path(file) if file is not None else None), _dotted(values), "relook")


def _dotted(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested sections as dotted keys, so that what a file says beside them stays."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= _dotted(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = str(value) if isinstance(value, Path) else value
    return flat


def __getattr__(name: str) -> Any:
    """Classes that are imported when somebody names them."""
    if name not in _CLASSES:
        raise AttributeError(f"module 'relook' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_CLASSES[name]), name)
