"""The suite itself: weights by rule with their exceptions, and rows that are compared as sets."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import parity_ledger
import pytest
import torch


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "made" / "case"
    made.mkdir(parents=True)
    shutil.copyfile(parity_ledger.OWN / "official_weights.py", made.parent / "official_weights.py")
    (made / "manifest.json").write_text(json.dumps({"a.weight": [3, 2], "b.weight": [3, 2], "c.bias": [4]}))
    given = np.arange(6, dtype=np.float32).reshape(3, 2)
    np.savez(made / "inputs.npz", **{"state_b.weight": given})
    rows = np.array([[[0, 1], [5, 5], [2, 3], [4, 5]]], np.float32)
    np.savez(made / "outputs.npz", rows=rows, rows_ambiguous=np.array([[True, False, True, False]]))
    return made


@pytest.fixture
def official(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    conftest = importlib.util.spec_from_file_location("parity_conftest", Path(__file__).parent / "conftest.py")
    assert conftest is not None
    assert conftest.loader is not None
    module = importlib.util.module_from_spec(conftest)
    conftest.loader.exec_module(module)
    monkeypatch.setattr(parity_ledger, "compared", set())

    def made(**config: Any) -> Any:
        (folder / "config.json").write_text(json.dumps(config))
        return module.Official(folder)

    return made


def test_factors_and_given_tensors_change_the_rule(
    official: Callable[..., Any], official_file: Callable[..., Path]
) -> None:
    plain = torch.load(official_file(official(), None), weights_only=True)
    made = torch.load(official_file(official(multiply={"weight": 3.0}), None), weights_only=True)
    torch.testing.assert_close(made["a.weight"], 3 * plain["a.weight"])
    torch.testing.assert_close(made["c.bias"], plain["c.bias"])
    torch.testing.assert_close(made["b.weight"], torch.arange(6.0).view(3, 2))
    own = torch.load(official_file(official(multiply={"weight": 3.0}), None, multiply={}), weights_only=True)
    torch.testing.assert_close(own["a.weight"], plain["a.weight"])


def test_marked_rows_may_change_places(official: Callable[..., Any]) -> None:
    folder = official()
    rows = folder.outputs["rows"]
    folder.agrees_as_sets("rows", rows[:, [2, 1, 0, 3]], "rows_ambiguous")
    assert parity_ledger.compared == {"made/case/rows"}
    with pytest.raises(AssertionError):
        folder.agrees_as_sets("rows", rows[:, [3, 1, 2, 0]], "rows_ambiguous")
    with pytest.raises(AssertionError):
        folder.agrees_as_sets("rows", rows[:, [0, 1, 0, 3]], "rows_ambiguous")


def test_the_projects_own_numbers_stay_small() -> None:
    files = [file for file in parity_ledger.OWN.rglob("*") if file.suffix in (".npz", ".json", ".png")]
    assert sum(file.stat().st_size for file in files) < 6_000_000
