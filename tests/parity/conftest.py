"""Where the official numbers are: the folder named by RELOOK_PARITY, else `../shared/parity` beside the project."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def parity() -> Path:
    folder = Path(os.environ.get("RELOOK_PARITY", ROOT.parent / "shared" / "parity"))
    if not folder.is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"{folder} is missing")
        pytest.skip(f"{folder} is not there: the official implementations' numbers are not part of the project")
    return folder


@pytest.fixture
def fixture_folder(parity: Path) -> Callable[[str], SimpleNamespace]:
    """Inputs, outputs and configuration of one folder of official numbers."""

    def load(name: str) -> SimpleNamespace:
        folder = parity / name
        return SimpleNamespace(
            folder=folder,
            inputs=np.load(folder / "inputs.npz"),
            outputs=np.load(folder / "outputs.npz"),
            config=json.loads((folder / "config.json").read_text()),
        )

    return load


@pytest.fixture
def official_file(parity: Path, tmp_path: Path) -> Callable[..., Path]:
    """A file as the authors would have released it: tensors drawn by rule from the official state-dict keys."""

    def write(manifest: Path, wrapper: str | None) -> Path:
        spec = importlib.util.spec_from_file_location("official_weights", parity / "official_weights.py")
        assert spec is not None
        assert spec.loader is not None
        module: Any = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        salt_file = parity / "salt.txt"
        salt = salt_file.read_text().strip() if salt_file.exists() else ""
        state = module.make_state_dict(str(manifest), salt)
        path = tmp_path / "official.pt"
        torch.save({wrapper: state} if wrapper else state, path)
        return path

    return write
