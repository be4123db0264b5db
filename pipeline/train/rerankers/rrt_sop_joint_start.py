"""The start of the joint training of the product transformer: a describer without fitted projections, and a matcher.

Used by `rrt_sop_joint.py`. The PCA that an index fitted for its maps becomes a 1x1 convolution of the describer, which
is trained, so that the first step computes the maps that are stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import nn

from pipeline.config import TrainRerankConfig
from pipeline.describe.card import settings_of
from pipeline.describe.describer import NetworkDescriber
from pipeline.describe.network import DescriberNetwork
from pipeline.describe.registry import resolved
from pipeline.errors import RelookError
from pipeline.rerank.rrt_sop.network import RRTSOPNetwork
from pipeline.rerank.rrt_sop.reranker import RRTSOPReranker
from pipeline.train.data.map_tokens import means_of
from pipeline.train.data.training_set import TrainingSet
from pipeline.train.init.whitening import within_class_whitening
from pipeline.train.rerankers.rrt_sop import RRTSOPRecipe, shape_for
from pipeline.types import FloatArray, ModelCard


def without_projection(describer: NetworkDescriber, card: ModelCard, device: torch.device) -> NetworkDescriber:
    """A describer that computes the maps of an index by its network alone.

    Args:
        describer: of the index; its network is used and changed.
        card: of the index.
        device: where it runs.

    Raises:
        RelookError: its maps are of an inner stage or projected for AMES, or its globals are whitened.
    """
    if card.locals.stage != "final" or card.locals.projection:
        raise RelookError(
            "train_rerank.rrt_sop.joint trains the final map; extract with describe.locals.stage=final and without "
            "describe.locals.projection"
        )
    fold_projection(describer.network, describer.fitted())
    config = resolved(card.name, None, settings_of(card))
    made = NetworkDescriber(describer.network, config, device)
    if made.to_fit:
        raise RelookError(
            f"train_rerank.rrt_sop.joint cannot train what is fitted to {', '.join(made.to_fit)} when extracting; "
            "extract with describe.globals.whiten=null and describe.maps.levels=[]"
        )
    return made


def fold_projection(network: DescriberNetwork, fitted: Mapping[str, FloatArray]) -> None:
    """Make the PCA of local descriptors that is among `fitted`, if any, the network's `reduce`."""
    if "locals.matrix" not in fitted:
        return
    matrix = torch.from_numpy(fitted["locals.matrix"]).double().T
    shift = -matrix @ torch.from_numpy(fitted["locals.mean"]).double()
    if network.reduce is not None:  # two linear maps in sequence are one
        first = {key: value.cpu().double() for key, value in network.reduce.state_dict().items()}
        shift = shift + matrix @ first["bias"]
        matrix = matrix @ first["weight"].flatten(1)
    network.reduce = nn.Conv2d(matrix.shape[1], matrix.shape[0], 1)
    network.reduce.load_state_dict({"weight": matrix[:, :, None, None], "bias": shift})


def matcher_to_train(training_set: TrainingSet, settings: TrainRerankConfig, seed: int, device: str) -> RRTSOPNetwork:
    """The matcher of `train_rerank.rrt_sop.joint.start`, or a new one that starts as on stored maps.

    A projection that was fitted on labels is fitted again without the held-out images, which the file's fit included.

    Raises:
        RelookError: there is no such file, or it was trained on other descriptors.
    """
    joint = settings.rrt_sop.joint
    assert joint is not None
    if joint.start is None and settings.rrt_sop.start == "comparing":
        return RRTSOPRecipe(training_set, settings, seed, device).task.network
    if joint.start is None:
        torch.manual_seed(seed)
        return RRTSOPNetwork(shape_for(settings.rrt_sop, training_set.card.local_dimension))
    loaded = RRTSOPReranker.load(joint.start, device)
    loaded.check(training_set.card)
    network = loaded.network
    shape = network.shape
    if shape.d_local is not None:
        fit = partial(within_class_whitening, dimension=shape.d_model, shrinkage=settings.rrt_sop.shrinkage)
        whitening = fit(means_of(training_set.source, training_set.ids), training_set.labels)
        with torch.no_grad():
            network.remap_local.weight.copy_(torch.from_numpy(whitening.weight))
            network.remap_local.bias.copy_(torch.from_numpy(whitening.bias))
        network.remap_local.requires_grad_(False)
    return network
