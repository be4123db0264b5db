"""The room rules: who may import whom, what every module says of itself, and how long a file may be.

Read from the source by `ast`, so that an import inside a function or under TYPE_CHECKING counts as well.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from photos import ROOT

PACKAGE = ROOT / "pipeline"
MODULES = sorted(PACKAGE.rglob("*.py"))
MAX_LINES = 400

# What each room may import, besides itself. A room is a package or a module right below `pipeline`; "" is
# `pipeline/__init__.py`.
RULES: dict[str, set[str]] = {
    "": set(),
    "errors": set(),
    "faults": set(),
    "files": {"errors", "faults"},
    "checkpoints": {"errors", "files"},
    "types": {"errors"},
    "config": {"errors"},
    "imaging": {"errors"},
    "catalog": {"types", "errors"},
    "fetch": {"errors", "files"},
    "describe": {"types", "imaging", "errors", "config", "checkpoints"},
    "stores": {"types", "errors", "faults", "files"},
    "rerank": {"types", "errors", "files", "checkpoints"},
    "evaluate": {"types", "errors"},
    "train": {"checkpoints", "config", "describe", "rerank", "stores", "types", "errors", "files"},
    "report": {"types", "imaging", "errors", "files"},
    "stages": {
        *("", "catalog", "checkpoints", "config", "describe", "errors", "evaluate", "faults", "fetch", "files"),
        "imaging",
        *("report", "rerank", "stores", "train", "types"),
    },
    "cli": {"", "stages", "config", "report", "errors", "files"},
}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def room_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "" if first == "__init__" else first


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imported_rooms(tree: ast.Module) -> set[str]:
    """The rooms that a module imports; "" for a name of `pipeline` itself, "(relative)" for `from . import x`."""
    rooms = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            rooms.add("(relative)")
        elif isinstance(node, ast.ImportFrom) and node.module == "pipeline":
            rooms |= {alias.name if alias.name in RULES else "" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            rooms |= room_named(node.module)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                rooms |= room_named(alias.name)
    return rooms


def room_named(module: str) -> set[str]:
    package, *rest = module.split(".")
    if package != "pipeline":
        return set()
    return {rest[0] if rest else ""}


def sentences(text: str) -> int:
    return sum(text.replace("\n", " ").count(f"{mark} ") for mark in ".?!:") + 1


@pytest.mark.parametrize(
    ("source", "rooms"),
    [
        ("import pipeline.stores.index.directory as x", {"stores"}),
        ("from pipeline.describe import load", {"describe"}),
        ("from pipeline import stages, __version__", {"stages", ""}),
        ("def f():\n    from pipeline.cli import main", {"cli"}),
        ("if TYPE_CHECKING:\n    import pipeline.train", {"train"}),
        ("import pipelines.cli, os.path\nfrom numpy import array", set()),
        ("from .errors import RelookError", {"(relative)"}),
    ],
)
def test_this_test_sees_every_form_of_import(source: str, rooms: set[str]) -> None:
    assert imported_rooms(ast.parse(source)) == rooms


def test_every_room_has_a_rule_and_every_rule_a_room() -> None:
    assert {room_of(path) for path in MODULES} == set(RULES)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_room_imports_only_what_it_may(path: Path) -> None:
    room = room_of(path)
    forbidden = imported_rooms(tree_of(path)) - RULES[room] - {room}
    assert not forbidden, f"{name_of(path)} may not import {sorted(forbidden)}; it may: {sorted(RULES[room])}"


def test_the_rules_keep_the_rooms_apart() -> None:
    """The rules themselves: data moves one way, so no two rooms may import each other, however long the way round."""
    side_by_side = ("describe", "stores", "rerank")
    for room in side_by_side:
        assert not RULES[room] & set(side_by_side)
    assert [room for room, allowed in RULES.items() if "stages" in allowed] == ["cli"]
    assert not any("cli" in allowed for allowed in RULES.values())
    left = {room: allowed - {room} for room, allowed in RULES.items()}
    while left:
        free = [room for room, allowed in left.items() if not allowed]
        assert free, f"these import each other in a circle: {sorted(left)}"
        left = {room: allowed - set(free) for room, allowed in left.items() if room not in free}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_begins_by_saying_what_it_holds(path: Path) -> None:
    text = ast.get_docstring(tree_of(path)) or ""
    lines = [line for line in text.splitlines() if line.strip()]
    assert len(lines) >= 2 or sentences(text) >= 2, f"{name_of(path)}: its docstring says too little: {text!r}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_file_is_too_long(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_LINES, f"{name_of(path)} has {lines} lines, more than {MAX_LINES}"


def test_the_command_line_begins_without_torch() -> None:
    """Its threads are told how to wait before it is loaded, and --help takes no seconds."""
    subprocess.run([sys.executable, "-c", "import sys, pipeline.cli; sys.exit('torch' in sys.modules)"], check=True)


def test_the_launcher_only_launches() -> None:
    launcher = ROOT / "cli.py"
    assert imported_rooms(tree_of(launcher)) == {"cli"}
    assert len(launcher.read_text(encoding="utf-8").splitlines()) <= 12
