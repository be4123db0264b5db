"""Official checkpoints of describers: recognised by their keys, their names translated to relook's and back.

Between `pipeline.checkpoints`, which reads the file, and `network.py`, which loads the tensors. A layout is a list of
pairs of templates and works in both directions, so that `relook convert` can go both ways.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from pipeline.checkpoints import Checkpoint
from pipeline.errors import RelookError

# What a template's {field} stands for.
_FIELDS = {"stage": r"\d", "block": r"\d+", "level": r"\d", "rest": r".+"}

# Registry names by a layout's family and the number of blocks in stage 3, in which the ResNets differ.
_REGISTRY_NAMES = {
    ("cvnet", 6): "cvnet_r50",
    ("cvnet", 23): "cvnet_r101",
    ("delg", 6): "delg_r50",
    ("delg", 23): "delg_r101",
    ("sop", 6): "sop_r50",
}


@dataclass(frozen=True)
class Layout:
    """How one family of official files names its tensors.

    Attributes:
        name: of the family, for `to_official`.
        marks: beginnings of keys by which a file is recognised; one of them is enough.
        pairs: (official template, relook's template) each, with fields of `_FIELDS`.
        wrapper: key under which the official code expects the state dict.
        family: of describers that read it; "cvnet" stands for those of SuperGlobal too, which are the same weights.
        others: beginnings of official keys that belong to no describer: rerankers, and heads used in training. They
            keep their names.
        first_block: what the first {block} of a stage is called; relook's, which are timm's, count from 0.
        fixed: relook's tensors that the official network has no place for, with the only value that it can do.
    """

    name: str
    marks: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    wrapper: str
    family: str
    others: tuple[str, ...] = ()
    first_block: int = 0
    fixed: tuple[tuple[str, float], ...] = ()

    def to_relook(self, key: str) -> str | None:
        """relook's name of an official key, None for one that the layout does not know."""
        if key.startswith(self.others):
            return key
        found = (_rename(key, official, ours, -self.first_block) for official, ours in self.pairs)
        return next((name for name in found if name), None)

    def to_official(self, key: str) -> str | None:
        """The official name of one of relook's keys, None for one that the layout does not know."""
        if key.startswith(self.others):
            return key
        found = (_rename(key, ours, official, self.first_block) for official, ours in self.pairs)
        return next((name for name in found if name), None)


# pycls, which CVNet, SuperGlobal and DELG-pytorch are built on.
_PYCLS = (
    ("stem.conv.{rest}", "backbone.model.conv1.{rest}"),
    ("stem.bn.{rest}", "backbone.model.bn1.{rest}"),
    ("s{stage}.b{block}.proj.{rest}", "backbone.model.layer{stage}.{block}.downsample.0.{rest}"),
    ("s{stage}.b{block}.bn.{rest}", "backbone.model.layer{stage}.{block}.downsample.1.{rest}"),
    ("s{stage}.b{block}.f.a.{rest}", "backbone.model.layer{stage}.{block}.conv1.{rest}"),
    ("s{stage}.b{block}.f.a_bn.{rest}", "backbone.model.layer{stage}.{block}.bn1.{rest}"),
    ("s{stage}.b{block}.f.b.{rest}", "backbone.model.layer{stage}.{block}.conv2.{rest}"),
    ("s{stage}.b{block}.f.b_bn.{rest}", "backbone.model.layer{stage}.{block}.bn2.{rest}"),
    ("s{stage}.b{block}.f.c.{rest}", "backbone.model.layer{stage}.{block}.conv3.{rest}"),
    ("s{stage}.b{block}.f.c_bn.{rest}", "backbone.model.layer{stage}.{block}.bn3.{rest}"),
    ("head.fc.{rest}", "head.fc.{rest}"),
    ("head.pool.p", "head.p"),
)
_CONV2DS = ("conv2ds.{level}.{rest}", "maps.conv2ds.{level}.{rest}")


def _below(prefix: str) -> tuple[tuple[str, str], ...]:
    return tuple((prefix + official, ours) for official, ours in _PYCLS)


LAYOUTS = (
    Layout("cvnet", ("encoder_q.",), (*_below("encoder_q."), _CONV2DS), "model_state", "cvnet", ("cv_learner.",), 1),
    Layout(
        "delg",
        ("localmodel.", "autoencoder."),
        (
            *_below("globalmodel."),
            ("localmodel.{rest}", "attention.{rest}"),
            ("autoencoder.encoder.{rest}", "reduce.{rest}"),
        ),
        "model_state",
        "delg",
        ("autoencoder.decoder.", "desc_cls.", "att_cls."),
        1,
    ),
    # SuperGlobal's loader renames this prefix to encoder_q, so released files may hold it.
    Layout(
        "superglobal",
        ("globalmodel.",),
        (*_below("globalmodel."), _CONV2DS),
        "model_state",
        "cvnet",
        ("cv_learner.",),
        1,
    ),
    Layout(
        "sop",
        ("remap_local.weight",),
        (
            ("remap.{rest}", "head.fc.{rest}"),
            ("remap_local.{rest}", "reduce.{rest}"),
            ("classifier.{rest}", "classifier.{rest}"),
            ("mean", "image.mean"),
            ("std", "image.std"),
            ("conv1.{rest}", "backbone.model.conv1.{rest}"),
            ("bn1.{rest}", "backbone.model.bn1.{rest}"),
            ("layer{stage}.{rest}", "backbone.model.layer{stage}.{rest}"),
        ),
        "state",
        "sop",
        ("matcher.",),
        fixed=(("head.p", 1.0),),
    ),
)


def recognise(state: Mapping[str, torch.Tensor]) -> Layout | None:
    """The layout of an official describer's state dict, or None where it is another model's."""
    return next((layout for layout in LAYOUTS if any(key.startswith(layout.marks) for key in state)), None)


def layout_named(name: str) -> Layout:
    """The layout of this name. Raises KeyError when there is none."""
    return {layout.name: layout for layout in LAYOUTS}[name]


def registry_name(state: Mapping[str, torch.Tensor]) -> str | None:
    """The describer that official weights belong to, such as "cvnet_r101"; None when they are of no known one."""
    layout = recognise(state)
    if layout is None:
        return None
    names = [layout.to_relook(key) or "" for key in state]
    blocks = {name.split(".")[3] for name in names if name.startswith("backbone.model.layer3.")}
    return _REGISTRY_NAMES.get((layout.family, len(blocks)))


def to_relook(file: Checkpoint) -> Checkpoint:
    """An official describer's tensors under relook's names; a file of relook's stays as it is.

    Raises:
        RelookError: the file is of no known layout, or holds keys that its layout does not have.
    """
    if file.header is not None:
        return file
    layout = recognise(file.state)
    if layout is None:
        raise RelookError(f"{file.path}: not a checkpoint of CVNet, SuperGlobal, DELG or RRT's product network")
    names = {key: layout.to_relook(key) for key in file.state}
    file.refuse(unexpected=[key for key, name in names.items() if name is None])
    return Checkpoint(file.path, {name: file.state[key] for key, name in names.items() if name})


def to_official(file: Checkpoint, layout_name: str) -> dict[str, torch.Tensor]:
    """The inverse of `to_relook`. Raises RelookError for tensors that the layout has no name for."""
    layout = layout_named(layout_name)
    implied = {key for key, value in layout.fixed if key in file.state and float(file.state[key]) == value}
    names = {key: layout.to_official(key) for key in file.state if key not in implied}
    file.refuse(unexpected=[key for key, name in names.items() if name is None])
    return {name: file.state[key] for key, name in names.items() if name}


def _rename(key: str, source: str, target: str, shift: int) -> str | None:
    """`key`, which follows the template `source`, written as `target`; None when it does not follow it."""
    pattern = "".join(
        f"(?P<{part}>{_FIELDS[part]})" if number % 2 else re.escape(part)
        for number, part in enumerate(re.split(r"\{(\w+)\}", source))
    )
    match = re.fullmatch(pattern, key)
    if match is None:
        return None
    fields = match.groupdict()
    if "block" in fields:
        fields["block"] = str(int(fields["block"]) + shift)
    return target.format(**fields)
