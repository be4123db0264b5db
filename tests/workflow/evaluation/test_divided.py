"""An evaluation that is divided: the same figures to the last digit however many shards, and no part of another one."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from cli_helpers import document, index, photos, refused
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import Config, parse_config
from pipeline.errors import RelookError
from pipeline.stages.evaluate import evaluate, evaluate_shard
from pipeline.workflow.evaluation import measurement
from pipeline.workflow.evaluation.collected import Collected

__all__ = ["index", "photos"]

# What differs between two runs of the same evaluation.
TIMES = ("seconds", "latency", "provenance")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measurement, "_BLOCK", 3)


def config_of(index: Path, protocol: str, chain: str = "superglobal") -> Config:
    names = [] if chain == "none" else [chain]
    values = {
        "index": str(index),
        "device": "cpu",
        "rerank": {"chain": names, "superglobal": {"top": 20}},
        "evaluate": {"protocol": protocol, "timed": 2},
    }
    return parse_config(values, "tests")


def figures(config: Config, **options: Any) -> dict[str, Any]:
    found = evaluate(config, **options).to_report()
    return {key: value for key, value in found.items() if key not in TIMES}


@pytest.mark.parametrize(
    ("protocol", "chain", "shards", "described"),
    [("labels", "superglobal", 3, False), ("labels", "none", 30, False), ("labels", "superglobal", 2, True)],
)
def test_figures_do_not_depend_on_the_shards(
    index: Path, photos: Path, tmp_path: Path, protocol: str, chain: str, shards: int, described: bool
) -> None:
    config = config_of(index, protocol, chain)
    queries = str(photos) if described else None
    for number in range(shards, 0, -1):
        evaluate_shard(config, f"{number}/{shards}", tmp_path / "parts", queries=queries)
    joined = figures(config, queries=queries, parts=tmp_path / "parts")
    assert joined == figures(config, queries=queries)
    assert joined["queries"] == 36


def test_parts_that_do_not_belong_are_refused(index: Path, tmp_path: Path) -> None:
    config, parts = config_of(index, "labels"), tmp_path / "parts"
    with pytest.raises(RelookError, match="no parts to join; make them with: relook evaluate --shard K/N"):
        evaluate(config, parts=parts)
    evaluate_shard(config, "2/3", parts)
    with pytest.raises(RelookError, match="shards that are not done: 1/3, 3/3"):
        evaluate(config, parts=parts)
    evaluate_shard(config, "1/3", parts)
    evaluate_shard(config_of(index, "labels", "none"), "3/3", parts)
    with pytest.raises(RelookError, match=r"3-of-3.json.gz: of another evaluation \(chain differs\)"):
        evaluate(config, parts=parts)
    evaluate_shard(config, "3/3", parts)
    content = (parts / "2-of-3.json.gz").read_bytes()
    for wrong in (content[:-20], b"", gzip.compress(b"[]"), gzip.compress(json.dumps({"format": 1}).encode())):
        (parts / "2-of-3.json.gz").write_bytes(wrong)
        with pytest.raises(RelookError, match=r"2-of-3\.json\.gz: damaged"):
            evaluate(config, parts=parts)
    (parts / "2-of-3.json.gz").write_bytes(content)
    (parts / "notes.txt").write_text("mine")
    assert evaluate(config, parts=parts).queries == 36
    evaluate_shard(config, "1/2", parts)
    with pytest.raises(RelookError, match="parts of 2 and 3 shards"):
        evaluate(config, parts=parts)


def test_the_command(index: Path, tmp_path: Path) -> None:
    given = ("evaluate", "--index", index, "--rerank", "none", "--parts", tmp_path / "parts")
    for shard in ("1/2", "2/2"):
        made = document(*given, "--shard", shard)
        assert (made["shard"], made["failed"]) == (shard, 0)
    joined = document(*given, "--join", "--report", tmp_path / "report")
    whole = document("evaluate", "--index", index, "--rerank", "none")
    assert joined["global"] == whole["global"]
    assert joined["intervals"] == whole["intervals"]
    assert (tmp_path / "report" / "evaluation.json").exists()
    assert "--parts DIR goes with" in refused(2, "evaluate", "--index", index, "--shard", "1/2")
    assert "leave --shard" in refused(2, *given, "--join", "--sweep", "search.top_k=5,6")
    assert "K must be from 1 to N" in refused(2, *given, "--shard", "3/2")


@given(st.lists(st.integers(0, 5), max_size=4), st.floats(allow_nan=False, allow_infinity=False))
def test_a_document_changes_nothing(counts: list[int], seconds: float) -> None:
    made = Collected.nothing(1, ("",))
    for number, count in enumerate(counts):
        made.append(Collected([number], count, [], [{"": []}], [], Collected.nothing(1, ("",)).curves, {"x": seconds}))
    plain = made.to_document()
    again = Collected.from_document(json.loads(json.dumps(plain)))
    assert again.to_document() == plain
