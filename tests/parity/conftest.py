"""The official numbers, folder by folder: those of the project, extended by `../shared/parity*` where they are there.

RELOOK_PARITY names other folders, separated as in PATH.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import parity_ledger
import pytest
import torch
from PIL import Image
from scipy.optimize import linear_sum_assignment


class Official:
    """One folder of official numbers. Comparing an output with `agrees` or `equals` is what the ledger counts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config: dict[str, Any] = json.loads((folder / "config.json").read_text())

    @cached_property
    def inputs(self) -> dict[str, np.ndarray]:
        """Arrays by name; none where the folder has no `inputs.npz`."""
        file = self.folder / "inputs.npz"
        return dict(np.load(file)) if file.is_file() else {}

    @cached_property
    def outputs(self) -> dict[str, np.ndarray]:
        """Arrays by name. Reading one is not comparing it."""
        return dict(np.load(self.folder / "outputs.npz"))

    @property
    def salt(self) -> str:
        """What the rule of the weights adds to every key."""
        beside = self.folder.parent / "salt.txt"
        return beside.read_text().strip() if beside.exists() else self.config.get("salt", "")

    def agrees(self, name: str, found: Any, atol: float, rtol: float = 0.0) -> None:
        """`found` has the shape of the output `name` and differs by at most `atol` (+ `rtol` times its size)."""
        found, expected = self._pair(name, found)
        np.testing.assert_allclose(found, expected, atol=atol, rtol=rtol, err_msg=f"{self.folder.name}/{name}")

    def agrees_as_sets(self, name: str, found: Any, ambiguous: str, atol: float = 0.0, rtol: float = 0.0) -> None:
        """As `agrees`, but rows that the mask `ambiguous` marks may stand in one another's place.

        Args:
            name: of the output, [*, n, ...]; with `ambiguous` [*, n] of its first axes.
            found: what is compared with it.
            ambiguous: name of the output that is the mask.
            atol, rtol: see `agrees`.
        """
        found, expected = self._pair(name, found)
        mask = self.outputs[ambiguous].astype(bool)
        assert expected.shape[: mask.ndim] == mask.shape, f"{self.folder.name}/{ambiguous}: not the mask of {name}"
        width = int(np.prod(expected.shape[mask.ndim :], dtype=int))
        lists = (array.reshape(-1, mask.shape[-1], width) for array in (found, expected))
        for row, (ours, theirs, free) in enumerate(zip(*lists, mask.reshape(-1, mask.shape[-1]), strict=True)):
            near = np.isclose(ours[free][:, None], theirs[free][None], atol=atol, rtol=rtol).all(axis=-1)
            order = np.flatnonzero(free)
            ours = ours.copy()
            ours[order[linear_sum_assignment(~near)[1]]] = ours[order]
            where = f"{self.folder.name}/{name}, list {row}"
            np.testing.assert_allclose(ours, theirs, atol=atol, rtol=rtol, err_msg=where)

    def equals(self, name: str, found: Any, where: Any = ...) -> None:
        """`found` has the shape and exactly the values of the output `name` (where the mask `where` is True)."""
        found, expected = self._pair(name, found)
        np.testing.assert_array_equal(found[where], expected[where], err_msg=f"{self.folder.name}/{name}")

    def has(self, name: str) -> bool:
        """Whether there is such an output."""
        return name in self.outputs

    def matching(self, start: str) -> list[str]:
        """Names of the outputs that begin so."""
        return [name for name in self.outputs if name.startswith(start)]

    def _pair(self, name: str, found: Any) -> tuple[np.ndarray, np.ndarray]:
        expected = self.outputs[name]
        found = found.detach().cpu().numpy() if isinstance(found, torch.Tensor) else np.asarray(found)
        assert found.shape == expected.shape, f"{self.folder.name}/{name}: {found.shape}, expected {expected.shape}"
        parity_ledger.compared.add(f"{self.folder.parent.name}/{self.folder.name}/{name}")
        return found, expected

    def picture(self, name: str) -> np.ndarray:
        """One of the images beside the folders: [H, W, 3] uint8 RGB."""
        return np.asarray(Image.open(self.folder.parent / "images" / f"{name}.png").convert("RGB"))

    def stats(self, name: str, found: torch.Tensor, rtol: float = 1e-5) -> None:
        """Mean, standard deviation, smallest and largest value agree; `rtol` is relative to the largest of them."""
        values = found.double().flatten()
        four = np.array([values.mean(), values.std(), values.min(), values.max()])
        self.agrees(name, four, atol=rtol * max(1.0, float(np.abs(self.outputs[name]).max())))


@pytest.fixture(scope="session")
def official_folder() -> Callable[[str], Official]:
    """A folder of official numbers by the name that `folders` gives it."""

    def load(name: str) -> Official:
        folder = parity_ledger.folder_named(name)
        if folder is None:
            missing = f"no folder {name} in {', '.join(map(str, parity_ledger.parity_roots()))}"
            if os.environ.get("RELOOK_PARITY"):  # other folders need not have every kind of fixture
                pytest.skip(missing)
            pytest.fail(missing)
        return Official(folder)

    return load


@pytest.fixture(scope="session")
def official_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A file as the authors would have released it: tensors drawn by rule from the official state-dict keys.

    `official_file(official, "state", manifest="manifest.json", rename=lambda key: key)`; the wrapper may be None.
    `multiply` are factors by the end of a key, those of the configuration unless others are given.
    """

    def write(
        official: Official,
        wrapper: str | None,
        manifest: str = "manifest.json",
        rename: Callable[[str], str] = lambda key: key,
        multiply: Mapping[str, float] | None = None,
    ) -> Path:
        factors = official.config.get("multiply", {}) if multiply is None else multiply
        made = official_state(official, manifest, factors)
        state = {rename(key): value for key, value in made.items()}
        path = tmp_path_factory.mktemp("official") / "official.pt"
        torch.save({wrapper: state} if wrapper else state, path)
        return path

    return write


def official_state(official: Official, manifest: str, multiply: Mapping[str, float]) -> dict[str, torch.Tensor]:
    """Tensors by official key: drawn by rule, then times the factors; those that `inputs.npz` gives are as given."""
    state = weights_rule(official.folder.parent).make_state_dict(str(official.folder / manifest), official.salt)
    for key, value in state.items():
        for ending, factor in multiply.items():
            if key.endswith(ending):
                state[key] = value * factor
        given = official.inputs.get(f"state_{key}")
        if given is not None:
            assert given.shape == tuple(value.shape), f"{official.folder.name}/state_{key}: of another shape"
            state[key] = torch.from_numpy(given)
    return state


def weights_rule(root: Path) -> Any:
    """The rule of the weights, `official_weights.py` beside the folders."""
    spec = importlib.util.spec_from_file_location("official_weights", root / "official_weights.py")
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
