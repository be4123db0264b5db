"""The room rules: who may import whom, what every module says of itself, and how long a file may be.

Read from the source by `ast`, so that an import inside a function or under TYPE_CHECKING counts as well.
"""

from __future__ import annotations

import ast
import re
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
    "settings": set(),
    # Of rerankers only the settings beside each: a configuration is read without a network.
    "config": {"errors", "rerank", "settings"},
    "imaging": {"errors", "files"},
    "catalog": {"types", "errors", "config", "files"},
    "fetch": {"errors", "files"},
    "describe": {"types", "imaging", "errors", "config", "checkpoints"},
    "stores": {"types", "errors", "faults", "files", "catalog"},
    "rerank": {"types", "errors", "files", "checkpoints", "settings"},
    "evaluate": {"types", "errors"},
    "train": {"checkpoints", "config", "describe", "rerank", "stores", "types", "errors", "files"},
    "report": {"types", "imaging", "errors", "files"},
    "workflow": {
        *("", "catalog", "checkpoints", "config", "describe", "errors", "evaluate", "faults", "files", "imaging"),
        *("rerank", "stores", "train", "types"),
    },
    "serve": {"", "config", "errors", "files", "imaging", "rerank", "types", "workflow"},
    "stages": {
        *("", "catalog", "checkpoints", "config", "describe", "errors", "evaluate", "faults", "fetch", "files"),
        *("imaging", "report", "rerank", "serve", "stores", "train", "types", "workflow"),
    },
    "cli": {"", "stages", "workflow", "config", "report", "errors", "files"},
}

# Parts of a room that do not know each other: each is a choice beside the others, named in the room's registry.
APART: dict[str, set[str]] = {
    "stores": {"table", "ann", "pinecone", "exchange"},
    "rerank": {"superglobal", "rrt", "rrt_sop", "ames", "cvnet", "elvis", "locore", "matching", "classics"},
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


def parts_of(room: str) -> dict[str, set[str]]:
    """The parts of a room, which are its modules and sub-packages, and the other parts that each imports."""
    folder = PACKAGE / room
    parts = {path.stem for path in folder.iterdir() if path.stem != "__pycache__"} - {"__init__"}
    edges: dict[str, set[str]] = {part: set() for part in parts}
    for path in folder.rglob("*.py"):
        part = path.relative_to(folder).parts[0].removesuffix(".py")
        for module in imported_modules(tree_of(path)):
            names = module.split(".")
            if names[:2] == ["pipeline", room] and names[2:3] and names[2] in parts - {part}:
                edges.setdefault(part, set()).add(names[2])
    return edges


def imported_modules(tree: ast.Module) -> set[str]:
    """Every dotted name that a module may import."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def circle_in(edges: dict[str, set[str]]) -> set[str]:
    """Names that import each other in a circle, however long the way round; empty where there are none."""
    left = {name: set(others) & edges.keys() for name, others in edges.items()}
    while free := [name for name, others in left.items() if not others]:
        left = {name: others - set(free) for name, others in left.items() if name not in free}
    return set(left)


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
    assert not circle_in({room: allowed - {room} for room, allowed in RULES.items()})


ROOMS = sorted(path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file())


@pytest.mark.parametrize("room", ROOMS)
def test_the_parts_of_a_room_import_in_one_direction(room: str) -> None:
    edges = {part: others for part, others in parts_of(room).items() if part != "__init__"}
    assert not circle_in(edges), f"these parts of {room} import each other: {sorted(circle_in(edges))}"


@pytest.mark.parametrize("room", APART)
def test_choices_of_a_room_do_not_know_each_other(room: str) -> None:
    edges, apart = parts_of(room), APART[room]
    assert apart <= edges.keys()
    for part in apart:
        assert not edges[part] & apart, f"{room}/{part} may not import {sorted(edges[part] & apart)}"


def test_stages_are_verbs_and_what_they_share_is_below() -> None:
    assert not [path.name for path in (PACKAGE / "stages").iterdir() if path.is_dir() and path.name != "__pycache__"]


def test_this_test_sees_circles() -> None:
    assert circle_in({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == {"a", "b", "c", "d"}
    assert circle_in({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == set()


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_begins_by_saying_what_it_holds(path: Path) -> None:
    text = ast.get_docstring(tree_of(path)) or ""
    lines = [line for line in text.splitlines() if line.strip()]
    assert len(lines) >= 2 or sentences(text) >= 2, f"{name_of(path)}: its docstring says too little: {text!r}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_file_is_too_long(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_LINES, f"{name_of(path)} has {lines} lines, more than {MAX_LINES}"


def test_the_command_line_begins_without_large_libraries() -> None:
    """Torch's threads are told how to wait before it is loaded; the others take longer than the rest of --help."""
    large = {"torch", "pandas", "pyarrow", "cv2", "PIL", "jinja2", "pipeline.stores", "pipeline.imaging"}
    code = f"import sys, pipeline.cli; sys.exit(', '.join({large} & sys.modules.keys()) or None)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_launcher_only_launches() -> None:
    launcher = ROOT / "cli.py"
    assert imported_rooms(tree_of(launcher)) == {"cli"}
    assert len(launcher.read_text(encoding="utf-8").splitlines()) <= 12


def test_the_picture_of_the_rooms_names_each_of_them() -> None:
    text = (ROOT / "docs" / "architecture.svg").read_text(encoding="utf-8")
    named = set(re.findall(r'class="name"[^>]*>([\w.]+)<', text))
    assert named == {room for room in RULES if room} | {"relook.py"}
