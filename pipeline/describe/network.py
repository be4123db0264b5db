"""The network of a describer: a backbone with the heads that its model has, and where their weights come from.

Built by the registry, run by the describer. timm's models bring a backbone alone; the papers' models (`presets.py`) are
a ResNet with heads, whose weights are one file, relook's or official.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from pipeline.checkpoints import Checkpoint, hash_weights, read_checkpoint, read_header
from pipeline.config import DescribeConfig
from pipeline.describe.backbones import RANDOM, Backbone, load_backbone
from pipeline.describe.heads import AttentionHead, GlobalHead, MapsHead
from pipeline.describe.official_checkpoints import to_relook
from pipeline.describe.presets import IMAGENET_MEAN, IMAGENET_STD, NETWORKS, PRESETS, PublishedNetwork
from pipeline.describe.resnet import ResNetBackbone
from pipeline.errors import RelookError

# Sizes that the papers' files have where a network is built without one.
_GLOBAL, _SOP_GLOBAL, _LOCAL, _HIDDEN, _MAPS = 2048, 128, 128, 512, 256

# Parts of a file that are not run when describing: rerankers, heads used in training, constants.
_NOT_RUN = ("cv_learner.", "matcher.", "autoencoder.", "desc_cls.", "att_cls.", "image.")


class DescriberNetwork(nn.Module):
    """All weights that describe a picture.

    Attributes:
        backbone: gives maps.
        head: makes the global descriptor.
        attention: how much each cell matters; None: its norm says it.
        reduce: 1x1 convolution from a map to local descriptors; None: cells as they are.
        maps: the levels that CVNet-Rerank compares; None: none are computed.
        classifier: of the product network's classes, on the global descriptor; describes nothing, but its training
            goes on from it. None: the file has none.
    """

    def __init__(
        self,
        backbone: Backbone,
        head: GlobalHead,
        attention: AttentionHead | None = None,
        reduce: nn.Conv2d | None = None,
        maps: MapsHead | None = None,
        classifier: nn.Linear | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.attention = attention
        self.reduce = reduce
        self.maps = maps
        self.classifier = classifier


def build_network(config: DescribeConfig) -> DescriberNetwork:
    """The network of a configuration with its weights, in evaluation mode.

    Raises:
        UsageError: no such model.
        RelookError: the weights cannot be had or do not fit, or the configuration asks for what the model lacks.
    """
    network = _published(config) if config.name in PRESETS else _from_timm(config)
    return network.eval().requires_grad_(False)


def network_to_train(
    config: DescribeConfig, dimension: int | None, start: Path | None, seed: int
) -> tuple[DescriberNetwork, bool]:
    """A describer's network at the beginning of its training; nothing in it asks for gradients yet.

    Args:
        config: which; a checkpoint that it names is where training goes on from.
        dimension: of the linear layer after pooling, for a network that has none yet; None: none is added.
        start: weights of a published model's backbone under timm's names, where the configuration names no checkpoint;
            None: ImageNet's from timm's hub.
        seed: of what is drawn at random.

    Returns:
        The network, and whether its linear layer is new and still means nothing.

    Raises:
        UsageError: no such model.
        RelookError: the weights cannot be had or do not fit.
    """
    if config.globals.kind != "gem":
        raise RelookError(f"describe.globals.kind = {config.globals.kind}: cannot be trained; gem can")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if config.name not in PRESETS:
            network = _not_adapted(build_network(config), config)
            if network.head.fc is not None or dimension is None:
                return network, False
            network.head.fc = nn.Linear(network.backbone.channels, dimension)
            return network, True
        if config.checkpoint is not None:
            return _not_adapted(build_network(config), config), False
        if config.weights == "random":
            return build_network(config), True
        published = NETWORKS[config.name]
        sizes = {} if dimension is None else {"head.fc.weight": torch.empty(dimension, 0)}
        network = _empty(published, config, sizes).eval().requires_grad_(False)
    imagenet = load_backbone(published.architecture, weights="pretrained", checkpoint=start)
    body = {key: value for key, value in imagenet.model.state_dict().items() if not key.startswith("fc.")}
    network.backbone.model.load_state_dict(body)
    network.backbone.weights = hash_weights(network.state_dict())
    return network, True


def _not_adapted(network: DescriberNetwork, config: DescribeConfig) -> DescriberNetwork:
    """`network`. Raises RelookError where it was adapted: training changes what its last layer was learnt for."""
    if network.head.adapted is not None:
        raise RelookError(
            f"{config.checkpoint}: an adapted describer is not trained further; train the one that it was made from, "
            "then run relook adapt on an index of the result"
        )
    return network


def _from_timm(config: DescribeConfig) -> DescriberNetwork:
    trained = _read_trained(config)
    if trained is not None:
        return _trained(config, trained)
    backbone = load_backbone(config.name, weights=config.weights, checkpoint=config.checkpoint)
    p = config.globals.p
    if p == "learned":
        if backbone.learned_p is None:
            raise RelookError("describe.globals.p = learned: the checkpoint holds no exponent (no key pool.p)")
        p = backbone.learned_p
    return _with_heads(config, backbone, p)


def _with_heads(config: DescribeConfig, backbone: Backbone, p: float) -> DescriberNetwork:
    """A backbone of timm's with the heads that the configuration asks for, none of them with weights; `p` is GeM's."""
    if config.superglobal is not None and (config.superglobal.relup or config.superglobal.relup_inside):
        raise RelookError(
            f"describe.superglobal.relup: {config.name} has no place for it; set relup and relup_inside off"
        )
    if config.locals.kind == "attention":
        raise RelookError(f"describe.locals.kind = attention: {config.name} has no attention; delg_r50 has")
    if config.maps.levels and config.maps.projection == "checkpoint":
        raise RelookError(f"describe.maps.projection = checkpoint: {config.name} has no conv2ds; use pca or none")
    maps = MapsHead(config.maps.levels, 0, None) if config.maps.levels else None
    return DescriberNetwork(backbone, GlobalHead(p, None, config.superglobal), maps=maps)


def _read_trained(config: DescribeConfig) -> Checkpoint | None:
    """The checkpoint of a configuration where it is a describer that relook trained; None where it is a backbone's."""
    if config.checkpoint is None or config.weights == "random" or not _is_trained(config.checkpoint):
        return None
    return _read(config.checkpoint, config.name)


def _is_trained(path: Path) -> bool:
    """Whether a file is a describer in relook's own format."""
    header = read_header(path)
    return header is not None and header.get("kind") == "describer"


def _trained(config: DescribeConfig, file: Checkpoint) -> DescriberNetwork:
    """A backbone of timm's and the heads that were trained with it."""
    state = {key: value for key, value in file.state.items() if not key.startswith(_NOT_RUN)}
    p = float(state.get("head.p", torch.tensor(1.0)))
    if config.globals.p not in ("learned", p):
        raise RelookError(
            f"{file.path}: trained with describe.globals.p = {p:g}, not {config.globals.p}; set it, or learned"
        )
    network = _with_heads(config, load_backbone(config.name, weights="random", checkpoint=None, classifier=False), p)
    add_heads(network, state)
    Checkpoint(file.path, state).load_into(network)
    network.backbone.weights = hash_weights(network.state_dict())
    return network


def add_heads(network: DescriberNetwork, state: Mapping[str, torch.Tensor]) -> None:
    """Give a network of timm's the linear heads that `state` has, of its sizes, still without its weights."""
    if "head.fc.weight" in state:
        outputs, inputs = state["head.fc.weight"].shape
        network.head.fc = nn.Linear(inputs, outputs)
    add_adapted(network, state)
    if "reduce.weight" in state:
        network.reduce = nn.Conv2d(state["reduce.weight"].shape[1], state["reduce.weight"].shape[0], 1)


def add_adapted(network: DescriberNetwork, state: Mapping[str, torch.Tensor]) -> None:
    """Give a network the layer that `relook adapt` learnt, where `state` has it, still without its weights."""
    if "head.adapted.weight" in state:
        outputs, inputs = state["head.adapted.weight"].shape
        network.head.adapted = nn.Linear(inputs, outputs)


def _published(config: DescribeConfig) -> DescriberNetwork:
    published = NETWORKS[config.name]
    if config.weights == "random":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = _empty(published, config, {})
        network.backbone.weights = RANDOM
    elif config.checkpoint is None:
        raise RelookError(
            f"the weights of {config.name} do not come with relook: give --set describe.checkpoint=FILE, relook's own "
            "file or the official one, or --set describe.weights=random to run without them"
        )
    else:
        file = to_relook(_read(config.checkpoint, config.name))
        network = _empty(published, config, file.state)
        _load(network, file, fixed_p=published.family in ("sop", "delg"))
    if config.globals.p != "learned":
        network.head.p.fill_(config.globals.p)
    if config.superglobal is not None:
        modules = config.superglobal
        assert isinstance(network.backbone, ResNetBackbone)
        network.backbone.use_relup(inside=modules.relup_inside, outside=modules.relup)
    return network


def _read(path: Path, name: str) -> Checkpoint:
    """A file of weights for the describer `name`; relook's own says what it is for."""
    file = read_checkpoint(path)
    found = file.header.get("name") if file.header else name
    # SuperGlobal's describers are CVNet's weights.
    if file.header and (file.header.get("kind") != "describer" or found != name.replace("superglobal", "cvnet")):
        raise RelookError(f"{path}: a checkpoint of {found}, not of {name}")
    return file


def _empty(published: PublishedNetwork, config: DescribeConfig, state: dict[str, torch.Tensor]) -> DescriberNetwork:
    """The network, its heads as wide as those of `state`, or as the papers' where that does not say."""

    def width(key: str, default: int) -> int:
        return state[key].shape[0] if key in state else default

    family = published.family
    backbone = ResNetBackbone(published.architecture)
    backbone.mean = _constant(state, "image.mean", IMAGENET_MEAN)
    backbone.std = _constant(state, "image.std", IMAGENET_STD)
    fc = nn.Linear(2048, width("head.fc.weight", _SOP_GLOBAL if family == "sop" else _GLOBAL))
    head = GlobalHead(1.0 if family == "sop" else 3.0, fc, config.superglobal)
    attention = reduce = maps = classifier = None
    if family == "delg":
        attention = AttentionHead(1024, width("attention.conv1.weight", _HIDDEN))
        reduce = nn.Conv2d(1024, width("reduce.weight", _LOCAL), 1)
    elif family == "sop":
        reduce = nn.Conv2d(2048, width("reduce.weight", _LOCAL), 1)
        if "classifier.weight" in state:
            classifier = nn.Linear(fc.out_features, width("classifier.weight", 0))
    elif config.locals.kind == "attention":
        delg = next(name for name, network in NETWORKS.items() if network == ("delg", published.architecture))
        raise RelookError(f"describe.locals.kind = attention: {config.name} has no attention; {delg} has")
    if config.maps.levels:
        projected = config.maps.projection == "checkpoint"
        if projected and family not in ("cvnet", "superglobal"):
            raise RelookError(f"describe.maps.projection = checkpoint: {config.name} has no conv2ds; use pca or none")
        maps = MapsHead(config.maps.levels, 1024, width("maps.conv2ds.0.weight", _MAPS) if projected else None)
    network = DescriberNetwork(backbone, head, attention, reduce, maps, classifier)
    add_adapted(network, state)
    return network


def _load(network: DescriberNetwork, file: Checkpoint, *, fixed_p: bool) -> None:
    """Load what describes. Where `fixed_p`, the file need not hold an exponent: the network was trained without."""
    not_run = _NOT_RUN if network.maps is not None and network.maps.conv2ds else (*_NOT_RUN, "maps.")
    run = {key: value for key, value in file.state.items() if not key.startswith(not_run)}
    missing_maps = network.maps is not None and network.maps.conv2ds and not any(k.startswith("maps.") for k in run)
    if missing_maps:
        raise RelookError(
            f"{file.path}: holds no conv2ds, which the maps for re-ranking need; for the global search alone give "
            "--set describe.maps.levels=[]"
        )
    if fixed_p and "head.p" not in run:
        run["head.p"] = network.head.p
    Checkpoint(file.path, run).load_into(network)
    network.backbone.weights = hash_weights(network.state_dict())


def _constant(
    state: dict[str, torch.Tensor], key: str, default: tuple[float, float, float]
) -> tuple[float, float, float]:
    if key not in state:
        return default
    # As float32 they are 0.48500001...; the card shows what was meant.
    red, green, blue = (round(float(value), 6) for value in state[key].flatten())
    return red, green, blue
