"""Verbs that move vectors alone load no network library, and the library of a store only where that store is used."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pinecone_helpers import filled, serving

PROGRAM = """
import json, sys
sys.argv = ["relook", *json.loads(sys.argv[1])]
from pipeline.cli import app
code = app(sys.argv[1:], standalone_mode=False)
print(json.dumps({"code": code or 0, "loaded": [name for name in json.loads(%r) if name in sys.modules]}))
"""
WATCHED = ["torch", "timm", "torchvision", "faiss", "pinecone", "pandas", "jinja2"]


def loaded(*arguments: object) -> list[str]:
    """Which of the watched libraries a verb loads, in a process of its own."""
    command = [sys.executable, "-c", PROGRAM % json.dumps(WATCHED), json.dumps([*map(str, arguments), "-q"])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert found["code"] == 0
    libraries: list[str] = found["loaded"]
    return libraries


@pytest.mark.parametrize("verb", ["upload", "verify", "gc", "compact", "info", "search --id a"])
def test_the_table_needs_no_library(tmp_path: Path, verb: str) -> None:
    index = filled(tmp_path / "index", ["a", "b", "c"])
    assert loaded(*verb.split(), "--index", index.directory) == []


def test_each_store_loads_its_own_library(tmp_path: Path) -> None:
    index = filled(tmp_path / "index", ["a", "b", "c"])
    for verb in ("upload", "verify"):
        assert loaded(verb, "--index", index.directory, "--store", "ann") == ["faiss"]
    with serving():
        for verb in ("upload", "verify"):
            assert loaded(verb, "--index", index.directory, "--store", "pinecone") == ["pinecone"]
