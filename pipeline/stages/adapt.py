"""`adapt`: a describer learns from an index without labels.

Between extract and reindex: pairs of photos are verified by matching, groups of them teach a linear map of the global
descriptor, and the describer with that map is written as a checkpoint, where it helps on groups that it was not learnt
from.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from pipeline.config import Config
from pipeline.describe.checkpoints import save_describer
from pipeline.describe.describer import NetworkDescriber
from pipeline.errors import RelookError
from pipeline.train.init.whitening import Whitening
from pipeline.train.mining.answers import read_answers
from pipeline.train.mining.graph import weakest_links
from pipeline.train.mining.pair_file import PairFile, pairs_beside
from pipeline.train.mining.veto import read_veto
from pipeline.workflow.gallery import Gallery, open_gallery
from pipeline.workflow.model_loading import open_describer
from pipeline.workflow.progress import Reporter, Silent
from pipeline.workflow.training.adaptation import Trial, choose_map
from pipeline.workflow.training.groups_table import write_groups
from pipeline.workflow.training.mined_groups import MinedGroups, check_enough, group_pairs
from pipeline.workflow.training.mining import MinedPairs, adapted_path, mine_pairs, way_of_matching
from pipeline.workflow.training.training_run import lock_beside


@dataclass(frozen=True)
class AdaptResult:
    """What was found and learnt.

    Attributes:
        index: that was read.
        checkpoint: that was written; None where no map is better than the descriptors as they are.
        found: counts: "images"; "duplicates", which count as one with another image; "candidates", pairs that were
            verified, of which "known" by earlier runs; pairs "answered" by a person; "pairs" that teach; those that do
            not, though they agree: "degenerate" ones, and "cut" ones, which others contradict; "groups", photos "in
            groups", groups "vetoed"; pairs that "disagree", near as they are.
        trials: what was tried, with mAP in percent over held-out groups.
        groups: of each its "members" (id, path, label), the number of "pairs", and the support of its "weakest" link,
            the weakest first.
        weights: of the describer.
        seconds: of the run.
    """

    index: str
    checkpoint: str | None
    found: dict[str, int]
    trials: list[Trial]
    groups: list[dict[str, Any]]
    weights: str
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Plain values, for `--json`."""
        return asdict(self)


def adapt(config: Config, reporter: Reporter | None = None) -> AdaptResult:
    """Mine pairs, learn from them, and write a checkpoint for `describe.checkpoint` where that helps.

    The groups are written as labels into `adapt.labels` where that is set.

    Args:
        config: `index`, `adapt`, `rerank.matching`, `store` and `seed` matter here.
        reporter: told about the progress.

    Raises:
        LockedError: another run writes the same checkpoint.
        RelookError: too few pairs, and then nothing is written; the index cannot be adapted, or lacks its photos.
    """
    started = time.monotonic()
    reporter, settings = reporter or Silent(), config.adapt
    refused = read_veto(settings.veto) if settings.veto is not None else []
    answers = read_answers(settings.answers) if settings.answers is not None else {}
    with open_gallery(config, partial="error") as gallery:
        describer = _describer(gallery)
        card = gallery.index.card
        out = adapted_path(config, card.name)
        with lock_beside(out):
            file = PairFile(pairs_beside(out), way_of_matching(gallery, config))
            mined = mine_pairs(gallery, config, file, reporter, answers)
            groups = group_pairs(mined, settings, refused)
            check_enough(groups.groups, settings, config.index)
            if settings.labels is not None:
                write_groups(settings.labels, gallery.index, mined.place_of, groups.groups.number)
            chosen = choose_map(groups.material, settings, config.seed, reporter)
            if chosen.whitening is not None:
                # SuperGlobal's describers are CVNet's weights.
                name = card.name.replace("superglobal", "cvnet")
                taken = [trial for trial in chosen.trials if trial.taken][-1]
                provenance = {"adapted": asdict(taken), "seed": config.seed, "found": _counts(mined, groups)}
                save_describer(out, name, _adapted(describer, chosen.whitening), provenance)
        return AdaptResult(
            index=str(config.index),
            checkpoint=str(out) if chosen.whitening is not None else None,
            found=_counts(mined, groups),
            trials=chosen.trials,
            groups=_shown(gallery, mined, groups),
            weights=card.weights,
            seconds=round(time.monotonic() - started, 1),
        )


def _describer(gallery: Gallery) -> NetworkDescriber:
    """The describer of the index. Raises RelookError where a map of its descriptors has no place in a checkpoint."""
    card, where = gallery.index.card, gallery.config.index
    describer = open_describer(gallery.config, gallery.index, carried=False)
    if not isinstance(describer, NetworkDescriber) or card.random:
        raise RelookError(f"{where}: made by {card.name} ({card.weights}), which has no checkpoint to adapt")
    if describer.network.head.adapted is not None:
        raise RelookError(
            f"{where}: made by a describer that was adapted; give the index of the one that it was made from, and keep "
            "both (docs/adapt.md)"
        )
    if card.settings["globals"]["whiten"]:
        raise RelookError(
            f"{where}: describe.globals.whiten = {card.settings['globals']['whiten']}; adapt learns its own whitening: "
            "extract without that setting into another index"
        )
    return describer


def _adapted(describer: NetworkDescriber, learnt: Whitening) -> Any:
    """The network with the learnt map after its global descriptor."""
    layer = nn.Linear(learnt.weight.shape[1], learnt.weight.shape[0])
    layer.load_state_dict({"weight": torch.from_numpy(learnt.weight), "bias": torch.from_numpy(learnt.bias)})
    describer.network.head.adapted = layer
    return describer.network


def _counts(mined: MinedPairs, groups: MinedGroups) -> dict[str, int]:
    number = groups.groups.number
    return {
        "images": len(mined.place_of),
        "duplicates": len(mined.place_of) - len(mined.records),
        "candidates": len(mined.pairs),
        "known": mined.known,
        "answered": int((mined.answers != "").sum()),
        "pairs": len(groups.groups.pairs),
        "degenerate": groups.degenerate,
        "cut": groups.cut,
        "groups": groups.groups.count,
        "in groups": int((number >= 0).sum()),
        "vetoed": groups.vetoed,
        "disagree": groups.disagreeing,
    }


def _shown(gallery: Gallery, mined: MinedPairs, groups: MinedGroups) -> list[dict[str, Any]]:
    number, inside = groups.groups.number, groups.groups.inside
    pairs, support = groups.groups.pairs[inside], groups.groups.support[inside]
    weakest = weakest_links(number, pairs, support)
    counts = np.bincount(number[pairs[:, 0]], minlength=groups.groups.count)
    members: list[list[dict[str, str]]] = [[] for _ in range(groups.groups.count)]
    for row in np.flatnonzero(number >= 0).tolist():
        record = mined.records[row]
        path = str(gallery.index.image_file(record))
        members[number[row]].append({"id": record.id, "path": path, "label": record.label})
    order: Sequence[int] = np.argsort(weakest, kind="stable").tolist()
    return [
        {"members": members[group], "pairs": int(counts[group]), "weakest": round(float(weakest[group]), 1)}
        for group in order
    ]
