"""Official files of AMES's detector, of ELViS and of LoCoRe become relook's own and official ones again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipeline.checkpoints import read_checkpoint, write_bare, write_official
from pipeline.describe.detector import Detector
from pipeline.errors import RelookError
from pipeline.rerank import load_reranker
from pipeline.rerank.checkpoints import save_checkpoint
from pipeline.rerank.elvis.network import ELViSNetwork, ELViSShape
from pipeline.rerank.elvis.reranker import ELViSReranker
from pipeline.rerank.locore.network import LoCoReNetwork
from pipeline.rerank.locore.reranker import LoCoReReranker
from pipeline.rerank.locore.shape import LoCoReShape
from pipeline.stages.convert import convert

# As the released one but for its sizes, whatever the tensors do not tell.
SMALL_LOCORE = LoCoReShape(24, 24, 24, layers=1, heads=12, feedforward=8, windows=(512,), positions=5122)


def family(folder: Path) -> dict[str, Path]:
    """Official files of AMES's detector, of ELViS and of LoCoRe, in the published sizes or small."""
    torch.manual_seed(0)
    states = {"detector": Detector(6).state_dict(), "elvis": ELViSNetwork(ELViSShape(8, 8, 4, 4)).state_dict()}
    for name, state in states.items():
        write_official(folder / f"{name}.pt", state, "state")
    write_bare(folder / "locore.safetensors", LoCoReNetwork(SMALL_LOCORE).state_dict())
    return {**{name: folder / f"{name}.pt" for name in states}, "locore": folder / "locore.safetensors"}


@pytest.mark.parametrize("name", ["detector", "elvis", "locore"])
def test_the_family_converts_there_and_back(name: str, tmp_path: Path) -> None:
    source, own = family(tmp_path)[name], tmp_path / "own.safetensors"
    made = convert(source, own)
    assert (made.name, made.format) == (name, "relook")
    assert read_checkpoint(own).header is not None
    back = tmp_path / f"back{source.suffix}"
    assert convert(own, back).left_out == []
    before, after = read_checkpoint(source), read_checkpoint(back)
    assert after.header is None
    assert before.state.keys() == after.state.keys()
    assert all(torch.equal(before.state[key], after.state[key]) for key in before.state)
    if name == "detector":
        assert Detector.read(own).card == Detector.read(back).card == Detector.read(source).card
    else:
        assert load_reranker(name, own).to_checkpoint().shape == load_reranker(name, source).to_checkpoint().shape


def test_official_code_of_the_family_cannot_do_all(tmp_path: Path) -> None:
    """Padding that does not count is relook's own; how many heads and candidates there are is said beside the file."""
    elvis = ELViSReranker(ELViSNetwork(ELViSShape(8, 8, 4, 4, counts_padding=False)))
    wide = LoCoReShape(24, 24, 24, layers=1, heads=3, feedforward=8, windows=(64,), candidates=7, aggregation="mean")
    locore = LoCoReReranker(LoCoReNetwork(wide), weight=0.2)
    own = {name: tmp_path / f"{name}-own.safetensors" for name in ("elvis", "locore")}
    save_checkpoint(own["elvis"], elvis.to_checkpoint())
    save_checkpoint(own["locore"], locore.to_checkpoint())
    with pytest.raises(RelookError, match=r"the official elvis cannot do what this one does .*counts_padding: False"):
        convert(own["elvis"], tmp_path / "elvis.pt")
    assert convert(own["locore"], tmp_path / "locore.safetensors").left_out == ["weight", "temperature"]
    with pytest.raises(RelookError, match="the official locore is a safetensors file"):
        convert(own["locore"], tmp_path / "locore.pt")
