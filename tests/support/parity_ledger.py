"""Which of the official numbers a run of the suite compared, and whether any was forgotten.

The fixtures of `tests/parity` write into the ledger; `tests/conftest.py` hands the hooks below to pytest. A run of
all of `tests/parity` fails when a folder of official numbers or one output array in it was compared by no test. Under
pytest-xdist every worker keeps a ledger of its own and the controller adds them up.
"""

from __future__ import annotations

import fnmatch
import os
from pathlib import Path
from typing import Any

import numpy as np
from photos import ROOT, SHARED

# Output arrays that no test has to compare, by "folder pattern/array pattern", and why.
EXCEPTIONS = {
    "ames_bin*/min_abs_preactivation_*": "says how the inputs were drawn: how near to 0 the closest bit was",
    "superglobal_rerank*/*_min_gap_f64": "says how near the closest scores are, which is what *_ambiguous marks",
    "*/*_ambiguous": "the mask under which rows are compared as sets, or orders not at all; not a result",
}

compared: set[str] = set()
_workers: set[str] = set()


# The numbers that are part of the project: synthetic images and tensors.
OWN = ROOT / "tests" / "parity" / "official"

# Folders of full sets in `SHARED`, which are read where they are there.
SETS = ("parity", "parity_matching", "parity_family")


def parity_roots() -> list[Path]:
    """Folders of official numbers: those of RELOOK_PARITY, separated as in PATH.

    By default they are the project's own, extended by the `SETS` that are there.
    """
    given = os.environ.get("RELOOK_PARITY")
    if given:
        return [Path(part).resolve() for part in given.split(os.pathsep) if part]
    there = [SHARED / name for name in SETS]
    return [OWN, *(folder.resolve() for folder in there if folder.is_dir())]


def named_roots() -> dict[str, Path]:
    """The roots by a name of their own: that of the folder, with a number where two have the same."""
    named: dict[str, Path] = {}
    for root in parity_roots():
        name = root.name if root.name not in named else f"{root.name}-{len(named)}"
        named[name] = root
    return named


def folders(pattern: str) -> list[str]:
    """Folders of official numbers that a pattern such as "cvnet_r[0-9]*" means, as "ROOT/NAME", for parameters."""
    found = [
        f"{name}/{path.name}"
        for name, root in named_roots().items()
        for path in sorted(root.glob(pattern))
        if path.is_dir()
    ]
    return found or [pattern]


def folder_named(name: str) -> Path | None:
    """The folder that `folders` calls so; None where there is none."""
    root, _, own = name.partition("/")
    folder = named_roots().get(root, Path()) / own
    return folder if root in named_roots() and own and folder.is_dir() else None


def forgotten() -> list[str]:
    """Output arrays that nothing compared, as "root/folder/array"."""
    seen = compared | _workers
    missing = []
    for folder in sorted(folder for root in parity_roots() for folder in root.iterdir()):
        if not folder.is_dir() or folder.name in ("images", "__pycache__"):
            continue
        label = f"{folder.parent.name}/{folder.name}"
        file = folder / "outputs.npz"
        if not file.is_file():
            missing.append(f"{label} (has no outputs.npz)")
            continue
        with np.load(file) as arrays:
            names = [f"{label}/{name}" for name in arrays.files]
        missing += [name for name in names if name not in seen and not _excepted(name)]
    return missing


def _excepted(name: str) -> bool:
    return any(fnmatch.fnmatchcase(name.partition("/")[2], pattern) for pattern in EXCEPTIONS)


def _is_whole_run(config: Any) -> bool:
    """Whether all of `tests/parity` was asked for."""
    option = config.option
    if option.keyword or option.markexpr or getattr(option, "lf", False) or option.collectonly or option.maxfail:
        return False
    here = ROOT / "tests" / "parity"
    paths = [Path(config.invocation_params.dir, argument).resolve() for argument in config.args]
    return all(root.is_dir() for root in parity_roots()) and any(path == here or path in here.parents for path in paths)


def pytest_testnodedown(node: Any, error: Any) -> None:
    """A worker of pytest-xdist has ended and hands over its ledger."""
    _workers.update(getattr(node, "workeroutput", {}).get("parity", ()))


def pytest_sessionfinish(session: Any) -> None:
    """Fail a whole run that compared less than everything."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["parity"] = sorted(compared)
    elif _is_whole_run(session.config) and not session.exitstatus and forgotten():
        session.exitstatus = 1


def pytest_terminal_summary(terminalreporter: Any, config: Any) -> None:
    """Name what was forgotten."""
    if _is_whole_run(config):
        for name in forgotten():
            terminalreporter.write_line(f"FORGOTTEN official numbers that no test compares: {name}", red=True)
