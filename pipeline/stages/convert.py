"""`convert`: official files of weights to relook's own, and back.

Beside the flow: every verb reads both kinds, but relook's own says what it is for, loads without unpickling, and holds
the model card. Nothing is computed; a tensor that has no place on the other side is an error that names it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipeline.checkpoints import Checkpoint, read_checkpoint, write_bare, write_checkpoint, write_official
from pipeline.describe import load_describer
from pipeline.describe.detector import KIND as DETECTOR
from pipeline.describe.detector import Detector, is_detector
from pipeline.describe.official_checkpoints import layout_named, recognise, registry_name, to_official, to_relook
from pipeline.errors import RelookError, UsageError
from pipeline.files import atomic_path, write_errors
from pipeline.rerank import load_reranker
from pipeline.rerank.checkpoints import recognise as recognise_reranker
from pipeline.rerank.checkpoints import save_checkpoint

OFFICIAL = (".pt", ".pth", ".pyth")
# What a network's shape says of how it is used, not of what it computes.
_FREE = ("dropout", "locals")
# The key that a reranker's official file has its tensors under; None: its official file is safetensors, with none.
_WRAPPERS = {"cvnet": "model_state", "rrt": "state", "rrt_sop": "state", "ames": "state", "elvis": "state"}
_BARE = ("locore",)
# What the official code of a reranker is told beside its file: arguments of `load_reranker`, and a shape's names.
_HEADS = {"heads": "heads"}
_LOCORE = {
    **_HEADS,
    "attention_window": "windows",
    "positions": "position_rule",
    "query_global": "query_global",
    "global_token": "global_token",
    "locals": "locals",
    "window": "candidates",
    "aggregation": "aggregation",
}
_TOLD = {"rrt": _HEADS, "rrt_sop": _HEADS, "ames": _HEADS, "locore": _LOCORE}


@dataclass(frozen=True)
class ConvertResult:
    """What was written.

    Attributes:
        name: what load_describer or load_reranker calls it, or "detector" (describe.locals.detector).
        left_out: what the source says beside its tensors and the target's format has no place for.
    """

    checkpoint: str
    name: str
    kind: str
    format: str
    tensors: int
    left_out: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Plain values, for `--json`."""
        return asdict(self)


def convert(source: Path, target: Path) -> ConvertResult:
    """Convert a file of weights; the suffix of `target` says to what.

    Args:
        source: an official file, or relook's own.
        target: .safetensors for relook's own format, .pt, .pth or .pyth for the official one (of locore .safetensors
            as well).

    Raises:
        UsageError: the target has another suffix.
        RelookError: the source cannot be read, is of no known model, or is of the target's format already.
    """
    file = read_checkpoint(source)
    if target.suffix == ".safetensors":
        if file.header is None:
            return _to_relook(file, target)
        if file.header.get("name") not in _BARE:
            raise RelookError(f"{source}: is relook's own format already; give a target that ends in {OFFICIAL[0]}")
        return _to_official(file, target)
    if target.suffix in OFFICIAL:
        if file.header is None:
            raise RelookError(f"{source}: is not in relook's format; give a target that ends in .safetensors")
        if file.header.get("name") in _BARE:
            raise RelookError(f"{target}: the official {file.header['name']} is a safetensors file; end it so")
        return _to_official(file, target)
    raise UsageError(f"{target}: expected .safetensors for relook's format, or {', '.join(OFFICIAL)} for the official")


def _to_relook(file: Checkpoint, target: Path) -> ConvertResult:
    if is_detector(file.state):
        Detector.read(file.path).save(target)
        return ConvertResult(str(target), DETECTOR, DETECTOR, "relook", len(file.state))
    layout = recognise(file.state)
    if layout is None:
        name = recognise_reranker(file.state)
        if name is None:
            raise RelookError(
                f"{file.path}: the weights of no model that relook knows (its first key: {min(file.state)})"
            )
        reranker: Any = load_reranker(name, file.path)
        save_checkpoint(target, reranker.to_checkpoint())
        return ConvertResult(str(target), name, "reranker", "relook", len(file.state))
    name = registry_name(file.state)
    if name is None:
        raise RelookError(f"{file.path}: a ResNet of {layout.family} whose depth no describer has")
    ours = to_relook(file)
    has_maps = any(key.startswith("maps.") for key in ours.state)
    options: dict[str, Any] = {} if has_maps or layout.family != "cvnet" else {"maps": {"levels": ()}}
    # Loading it checks every key, and gives the card.
    card = load_describer(name, file.path, **options).card
    header = {"kind": "describer", "name": name, "layout": layout.name, "card": card.to_json()}
    write_checkpoint(target, ours.state, header)
    return ConvertResult(str(target), name, "describer", "relook", len(ours.state))


def _to_official(file: Checkpoint, target: Path) -> ConvertResult:
    header = file.header or {}
    name, kind = str(header.get("name")), header.get("kind", "reranker")
    if kind == "describer":
        if header.get("layout") is None:
            raise RelookError(f"{file.path}: {name} has no official format")
        layout = layout_named(str(header["layout"]))
        with write_errors(target), atomic_path(target) as temporary:
            write_official(temporary, to_official(file, layout.name), layout.wrapper)
            matcher = header.get("reranker") or {}
            left_out = _left_out(file.path, matcher["name"], temporary) if matcher else []
        return ConvertResult(str(target), name, "describer", "official", len(file.state), left_out)
    if kind == DETECTOR:
        state = Detector.read(file.path).state_dict()
        write_official(target, state, "state")
        return ConvertResult(str(target), name, DETECTOR, "official", len(state))
    if name not in _WRAPPERS and name not in _BARE:
        raise RelookError(f"{file.path}: {name} has no official format")
    with write_errors(target), atomic_path(target) as temporary:
        if name in _BARE:
            write_bare(temporary, file.state)
        else:
            write_official(temporary, file.state, _WRAPPERS[name])
        left_out = _left_out(file.path, name, temporary)
    return ConvertResult(str(target), name, "reranker", "official", len(file.state), left_out)


def _left_out(own: Path, name: str, official: Path) -> list[str]:
    """What relook's file of a reranker says that the official one has no place for.

    Raises RelookError for a network that the official code would compute otherwise: it must not pass for its own.
    """
    ours: Any = load_reranker(name, own)
    shape = getattr(getattr(ours, "network", None), "shape", None)  # cvnet has none: its tensors say all
    has = shape.to_json() if shape is not None else {}
    told = {key: has[field] for key, field in _TOLD.get(name, {}).items()}
    theirs: Any = load_reranker(name, official, **told)
    there = theirs.network.shape.to_json() if has else {}
    differences = [f"{key}: {value!r}" for key, value in has.items() if key not in _FREE and there[key] != value]
    if differences:
        raise RelookError(f"the official {name} cannot do what this one does ({', '.join(differences)})")
    return [key for key in ("card", "weight", "temperature") if getattr(ours, key) != getattr(theirs, key)]
