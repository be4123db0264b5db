"""Checkpoints as training code leaves them: wrappers, prefixes, averaged weights, settings beside the weights."""

from __future__ import annotations

import argparse
import collections
import pathlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pipeline.checkpoints import read_checkpoint
from pipeline.errors import RelookError

State = dict[str, torch.Tensor]


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(collections.OrderedDict(conv=nn.Conv2d(3, 4, 3), bn=nn.BatchNorm2d(4)))


PLAIN: State = network().state_dict()
AVERAGE: State = network(1).state_dict()


def prefixed(prefix: str, state: State = PLAIN) -> State:
    return {prefix + key: value for key, value in state.items()}


def lightning(state: State) -> dict[str, Any]:
    return {"pytorch-lightning_version": "2.5.0", "epoch": 3, "state_dict": state, "hyper_parameters": {"lr": 0.1}}


FILES: dict[str, Callable[[], Any]] = {
    "plain": lambda: PLAIN,
    "DistributedDataParallel": lambda: prefixed("module."),
    "compiled": lambda: torch.compile(network()).state_dict(),
    "compiled, then parallel": lambda: prefixed("module._orig_mod."),
    "parallel, then compiled": lambda: prefixed("_orig_mod.module."),
    "a compiled part": lambda: {key.replace("conv.", "conv._orig_mod."): value for key, value in PLAIN.items()},
    "stochastic weight averaging": lambda: torch.optim.swa_utils.AveragedModel(network()).state_dict(),
    "averaging of a parallel network": lambda: {**prefixed("module.module."), "n_averaged": torch.tensor(3)},
    "Lightning": lambda: lightning(prefixed("model.")),
    "Lightning, net": lambda: lightning(prefixed("net.")),
    "Lightning, compiled": lambda: lightning(prefixed("model._orig_mod.")),
    "Lightning with a loss": lambda: lightning({**prefixed("backbone."), "loss.weight": torch.ones(2)}),
    "model_state_dict": lambda: {"model_state_dict": PLAIN, "optimizer_state_dict": {"state": {}}, "epoch": 7},
    "net": lambda: {"net": PLAIN, "acc": 91.2},
    "the average alone": lambda: {"state_dict_ema": PLAIN},
    "a nested average": lambda: {"ema": {"module": PLAIN, "decay": 0.99}},
    "Namespace": lambda: {"model": PLAIN, "args": argparse.Namespace(lr=0.1, out=pathlib.Path("runs"))},
    "NumPy scalars": lambda: {"state_dict": PLAIN, "best": np.float64(0.3), "epoch": np.int64(4)},
}


def same(found: State, expected: State) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.parametrize("kind", FILES)
def test_the_weights_are_found_under_plain_names(kind: str, tmp_path: Path) -> None:
    torch.save(FILES[kind](), tmp_path / "a.pth")
    found = read_checkpoint(tmp_path / "a.pth").state
    assert same(found, PLAIN)


def test_a_safetensors_file_of_others_has_plain_names_too(tmp_path: Path) -> None:
    save_file(prefixed("_orig_mod."), str(tmp_path / "a.safetensors"))
    assert same(read_checkpoint(tmp_path / "a.safetensors").state, PLAIN)
    with pytest.raises(RelookError, match="one state dict; leave #ema out"):
        read_checkpoint(tmp_path / "a.safetensors#ema")


@pytest.mark.parametrize("name", ["state_dict_ema", "model_ema", "ema"])
def test_averaged_weights_are_chosen_by_the_key(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "a.pth"
    torch.save({"state_dict": PLAIN, name: prefixed("module.", AVERAGE)}, file)
    assert same(read_checkpoint(file).state, PLAIN)
    assert (
        f"the weights are those of state_dict; the file also holds {name}, which {file}#{name} chooses" in caplog.text
    )
    assert same(read_checkpoint(tmp_path / f"a.pth#{name}").state, AVERAGE)
    assert same(read_checkpoint(tmp_path / "a.pth#ema").state, AVERAGE)
    assert same(read_checkpoint(tmp_path / "a.pth#state_dict").state, PLAIN)
    with pytest.raises(RelookError, match=f"holds no state dict under best; it holds state_dict, {name}$"):
        read_checkpoint(tmp_path / "a.pth#best")


def test_a_file_whose_name_has_a_number_sign(tmp_path: Path) -> None:
    torch.save(PLAIN, tmp_path / "run#3")
    assert same(read_checkpoint(tmp_path / "run#3").state, PLAIN)


def test_what_is_no_weights_is_named_with_the_remedy(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "optimizer": {"state": {}}}, tmp_path / "a.pth")
    torch.save(network(), tmp_path / "b.pth")
    with pytest.raises(RelookError, match=r"no state dict \(keys: epoch, optimizer\); save the weights alone"):
        read_checkpoint(tmp_path / "a.pth")
    with pytest.raises(RelookError, match=r"more than weights: torch\.nn\..*save the weights alone: torch\.save\("):
        read_checkpoint(tmp_path / "b.pth")
