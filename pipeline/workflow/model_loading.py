"""The describer and the rerankers that a configuration and an index name, loaded and checked.

torch is imported where a network needs it: a search with an index that carries its describer loads none.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.config import Config, parse_config
from pipeline.describe import ReadOptions
from pipeline.errors import RelookError
from pipeline.imaging import ColourRule
from pipeline.rerank import RerankStep, load_reranker
from pipeline.rerank.matching.settings import MatchingSettings
from pipeline.rerank.registry import kind_named
from pipeline.rerank.settings import TrainedSettings
from pipeline.stores import Index
from pipeline.stores.index.manifest import NAME, STAGED, read_manifest
from pipeline.types import IMPORTED, Describer, FittableDescriber, FloatArray, KeypointsCard, ModelCard
from pipeline.workflow.requested_model import remembered_checkpoint, requested_model
from pipeline.workflow.rerank_chain import configured_chain

logger = logging.getLogger("relook")

# Least photos and least batches of a block, which share batches. Small enough to divide a collection into shards,
# large enough that the last batches of a block, which are not full, cost little.
_BLOCK, _BLOCK_BATCHES = 64, 4

# What drivers of NVIDIA, of NVIDIA in WSL, and of AMD make.
_DRIVERS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")


def choose_device(config: Config) -> str:
    """The device to compute on. Raises RelookError when CUDA is requested and is not there."""
    if config.device not in ("cuda", "auto") or (config.device == "auto" and not may_have_cuda()):
        return "cpu" if config.device == "auto" else config.device
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if config.device == "cuda":
        raise RelookError("device = cuda, but torch sees no CUDA device; use --device cpu or auto")
    return "cpu"


def may_have_cuda() -> bool:
    """Whether this machine may have a device that torch calls CUDA: False where its driver is not there.

    Looked at without torch, which takes seconds to load.
    """
    if sys.platform == "darwin" or os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return False
    if sys.platform == "linux":
        return any(Path(file).exists() for file in _DRIVERS)
    return True


def open_describer(config: Config, index: Index, *, carried: bool = True) -> Describer:
    """The describer that made an index, for its queries.

    It is the one that the index carries, which needs neither torch nor the weights, unless `describe.runtime` is
    torch, `describe.checkpoint` is set, or there is a GPU. Otherwise weights come from `describe.checkpoint` where that
    is set, else from the file that the index was made with.

    Args:
        config: `describe` and `device` matter here.
        index: whose model it is.
        carried: False: a describer with its network, such as training needs.

    Raises:
        RelookError: the configuration requests another describer, and the message says what differs; the file of
            weights is missing or another one; or the descriptors were made by another program.
    """
    card = index.card
    if card.name == IMPORTED:
        raise RelookError(
            f"{index.directory}: its descriptors come from another program ({card.weights}), so no photo can be "
            "described like them; search with an image of the index (--id)"
        )
    # The index has the projection for AMES and the detector; the files that they came from are not needed again.
    not_compared: Any = {"fit_from": True, "fit_images": True, "keypoints": True, "locals": {"projection", "detector"}}
    requested = config.describe.model_dump(mode="json", exclude_unset=True, exclude=not_compared)
    if requested.get("globals", {}).get("p") == "learned":  # the card may have the value that was learned
        del requested["globals"]["p"]
    have: dict[str, Any] = {
        "name": card.name,
        "weights": "random" if card.random else "pretrained",
        **card.complete_settings,
    }
    differences = _differences(requested, have)
    checkpoint = config.describe.checkpoint
    if differences and _is_being_made(config, index):
        logger.warning("%s: another model is being made; searches use the present one until then", index.directory)
        checkpoint = None
    elif differences:
        raise RelookError(f"{index.directory}: made by another model ({'; '.join(differences[:3])})")
    device = choose_device(config)
    if carried and checkpoint is None and device == "cpu" and config.describe.runtime != "torch":
        found = _carried(index, config.describe.runtime)
        if found is not None:
            return found
    if checkpoint is None:
        checkpoint = remembered_checkpoint(index)
    from pipeline.describe import describer_for_card

    runtime = config.describe.runtime if carried else "torch"
    return describer_for_card(card, index.fitted(), checkpoint, device, runtime)


def _carried(index: Index, runtime: str) -> Describer | None:
    """The describer that an index carries; None: it carries none, or, which is said, one that cannot be used."""
    from pipeline.describe.exported import ExportedDescriber, ExportedSpec
    from pipeline.describe.runtimes.registry import INSTALLED, check_runtime, open_session

    name = INSTALLED if runtime == "auto" else runtime
    check_runtime(name)
    try:
        stored = index.carried_describer()
        if stored is None:
            return None
        # The installed runtime has float32 alone: closer to what a gallery of bfloat16 rounds than bfloat16 itself.
        precision = "float32" if name == INSTALLED else str(index.card.settings.get("precision", "float32"))
        session = open_session(name, stored.graph, precision)
        return ExportedDescriber(index.card, index.fitted(), ExportedSpec.from_json(stored.spec), session)
    except (RelookError, KeyError, TypeError, ValueError) as error:
        logger.warning("%s; the describer is loaded from its weights instead", error)
        return None


def new_describer(config: Config) -> FittableDescriber:
    """The describer of a configuration, with the projections of `describe.fit_from` where that is set."""
    # Settings that are not given have the published values of the describer.
    options = config.describe.model_dump(exclude={"name", "checkpoint", "keypoints"}, exclude_unset=True)
    if "icc" not in config.describe.image.model_fields_set and (icc := _icc_of_index(config)):
        options["image"] = {**options.get("image", {}), "icc": icc}
    options["runtime"] = config.describe.runtime
    fitted = Index(config.describe.fit_from).fitted() if config.describe.fit_from is not None else None
    describer = _packaged(config, options, fitted) or _network(config, options)
    if fitted is not None:
        describer.use_fitted(fitted)
    return describer


def _packaged(
    config: Config, options: Mapping[str, Any], fitted: Mapping[str, FloatArray] | None
) -> FittableDescriber | None:
    """The default describer without torch; None where the configuration is of another one."""
    from pipeline.describe.packaged_describer import PackagedDescriber, is_packaged

    given = {**options, "name": config.describe.name, "checkpoint": config.describe.checkpoint}
    describe = parse_config({"describe": given}, config.describe.name).describe
    # An index may bring a detector or a projection for AMES, which are torch's.
    others = [key for key in fitted or () if key.partition(".")[0] not in ("globals", "locals")]
    if others or not is_packaged(describe) or choose_device(config) != "cpu":
        return None
    return PackagedDescriber(describe)


def _network(config: Config, options: Mapping[str, Any]) -> FittableDescriber:
    from pipeline.describe import load_describer

    return load_describer(config.describe.name, config.describe.checkpoint, choose_device(config), **options)


def read_options(config: Config) -> ReadOptions:
    """How photos are read, as the configuration says."""
    limits = config.describe.image
    workers = config.extract.workers or min(16, os.cpu_count() or 1)
    on_cpu = choose_device(config) == "cpu"
    # On a CPU the maps of two pictures still fit the caches: larger batches take a third longer per picture.
    batch_size = config.extract.batch_size or (2 if on_cpu else 64)
    models = (os.cpu_count() or 1) if on_cpu else 1
    seconds, block = config.extract.decode_seconds, max(_BLOCK, _BLOCK_BATCHES * batch_size)
    return ReadOptions(batch_size, workers, models, limits.max_pixels, limits.max_bytes, seconds, block)


def open_chain(
    config: Config, card: ModelCard, keypoints: KeypointsCard | None = None, locals_card: ModelCard | None = None
) -> list[RerankStep]:
    """The rerankers of a configuration (`configured_chain`), bound to the descriptors that they will read.

    Args:
        config: `rerank` and `device` matter here.
        card: of the descriptors.
        keypoints: what made the keypoints that the index keeps; None: it keeps none.
        locals_card: what made the local descriptors, where they are those of `rerank.locals_from`.

    Raises:
        UsageError: a name is unknown.
        RelookError: a checkpoint is missing, or made for other descriptors.
    """
    return [open_reranker(config, name, card, keypoints, locals_card) for name in configured_chain(config, keypoints)]


def open_reranker(
    config: Config,
    name: str,
    card: ModelCard,
    keypoints: KeypointsCard | None = None,
    locals_card: ModelCard | None = None,
) -> RerankStep:
    """One of them, with its settings in the configuration; `locals_card` is that of `rerank.locals_from`.

    Raises as `open_chain` does, and RelookError where it reads global and local descriptors of two models.
    """
    options = reranker_options(config, name, keypoints)
    reranker = load_reranker(name, device=choose_device(config), searching=True, **options)
    if locals_card is not None and "locals" in reranker.needs:
        if "globals" in reranker.needs:
            raise RelookError(
                f"rerank.locals_from: {name} reads global and local descriptors of one model; search the index that "
                "has both"
            )
        card = locals_card
    reranker = reranker.bind(card)
    settings = config.rerank.settings_of(name)
    if isinstance(settings, MatchingSettings):
        matching: Any = reranker
        if keypoints is not None and keypoints.kind == matching.features:
            matching.check_keypoints(keypoints)
    weight = settings.weight
    if weight is None:
        weight = getattr(reranker, "weight", None)
    if weight is None:
        raise RelookError(f"rerank.{name}.weight is not set, and its checkpoint does not hold one")
    return RerankStep(name, reranker, settings.top, weight, settings.margin)


def reranker_options(config: Config, name: str, keypoints: KeypointsCard | None = None) -> dict[str, Any]:
    """The options of `load_reranker`: those of the configuration, and the index's own checkpoint and keypoints."""
    kind_named(name)  # raises the error for an unknown name
    section = config.rerank.settings_of(name)
    options: dict[str, Any] = section.model_dump(exclude={"top", "weight", "margin"})
    if isinstance(section, TrainedSettings) and section.checkpoint is None:
        options["checkpoint"] = default_checkpoint(config.index, name)
    if isinstance(section, MatchingSettings):
        options["accept_license"] = config.accept_license
        if section.features is None:
            from pipeline.rerank.matching.matchers import features_for  # it loads torch

            options["features"] = features_for(section.matcher, keypoints.kind if keypoints else None)
    return options


def default_checkpoint(index: Path, name: str) -> Path:
    """Where a reranker that was trained on an index lies unless the configuration says otherwise."""
    return index / "rerankers" / f"{name}.safetensors"


def _is_being_made(config: Config, index: Index) -> bool:
    """Whether `reindex` is at work on the requested model, or has switched to it since `index` was opened."""
    requested = requested_model(config)
    for name in (STAGED, NAME):  # in this order: the one is removed after the other was replaced
        with suppress(RelookError):  # none is under way
            if read_manifest(index.directory, name).asked == requested:
                return True
    return False


def _icc_of_index(config: Config) -> ColourRule | None:
    """How an index of the requested describer reads colours: one from before `describe.image.icc` keeps its way.

    Where it is not set, an upgrade of relook does not change the model of an index.
    """
    for name in (NAME, STAGED):
        if (config.index / name).exists():
            card = read_manifest(config.index, name).card
            if card.name == config.describe.name:
                return card.image.icc
    return None


def _differences(requested: Mapping[str, Any], have: Mapping[str, Any], prefix: str = "describe.") -> list[str]:
    found = []
    for key, value in requested.items():
        if isinstance(value, Mapping):
            found += _differences(value, have.get(key) or {}, f"{prefix}{key}.")
        elif key in have and value is not None and have[key] != value:
            found.append(f"{prefix}{key}: {value!r} requested, {have[key]!r} in the index")
    return found
