"""`relook info`, `config` and `duplicates`: what they say of an index and of the settings, without a network."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from cli_helpers import ROOT, document, relook
from rich.console import Console
from stores_helpers import ROOT as PHOTOS
from stores_helpers import make_card, make_index, unit_vectors

from pipeline.cli.help import GROUPS, keep_named
from pipeline.cli.run import app
from pipeline.config import Config, load_config
from pipeline.errors import RelookError, UsageError
from pipeline.report import show_info, write_duplicates
from pipeline.stages.config import settings
from pipeline.stages.duplicates import duplicates
from pipeline.stages.info import info
from pipeline.stores import IndexWriter
from pipeline.types import Description, ImageRecord
from pipeline.workflow.rerank_chain import set_default_chain


def config_of(directory: Path) -> Config:
    return load_config(overrides=[f"index={directory}"])


def record(name: str, content: str = "", label: str = "", split: str = "") -> ImageRecord:
    return ImageRecord(name, name, label, split, None, 64, 48, 10, 1, content)


# --- info -------------------------------------------------------------------------------------------------------------


def test_info_counts_what_the_index_holds(tmp_path: Path) -> None:
    index = make_index(tmp_path / "index", ids=("a", "b", "c"))
    with IndexWriter(tmp_path / "index") as writer:
        writer.complete(3)
        writer.delete(["b"])
        writer.complete(3)
    found = info(config_of(tmp_path / "index"))
    assert (found.images, found.parts, found.deleted) == (2, 1, 1)
    assert found.labels == {"labels": 2, "labelled": 2, "distractors": 0}
    assert found.splits == {"val": 2}
    assert found.model == index.card.to_json()
    assert found.fingerprint == index.card.fingerprint
    assert [row["images"] for row in found.earlier] == [3]
    sizes = {kind: file.bytes for kind, file in index.manifest.parts[0].files.items()}
    assert {kind: row["bytes"] for kind, row in found.representations.items()} == sizes
    assert found.representations["globals"]["bytes_per_image"] == round(sizes["globals"] / 3, 1)
    assert [row["kind"] for row in found.stores] == ["table"]
    assert found.changing is None
    assert 0 <= found.age_seconds < 600


def test_info_names_a_change_of_model_and_damaged_generations(tmp_path: Path) -> None:
    make_index(tmp_path / "index")
    other = make_card(weights="random weights (seed 1)")
    with IndexWriter(tmp_path / "index") as writer:
        writer.complete(3)
        writer.begin(other, {}, PHOTOS, "parquet", change_model=True)
    found = info(config_of(tmp_path / "index"))
    assert found.changing == {"fingerprint": other.fingerprint, "images": 0}
    assert found.fingerprint != other.fingerprint


def test_info_says_which_rerankers_searches_use(tmp_path: Path) -> None:
    make_index(tmp_path / "index")
    assert info(config_of(tmp_path / "index")).default_chain is None
    set_default_chain(tmp_path / "index", ["rrt", "superglobal"])
    found = info(config_of(tmp_path / "index"))
    assert found.default_chain == ["rrt", "superglobal"]
    shown = io.StringIO()
    show_info(Console(file=shown, width=200), found.to_json())
    assert "rrt, superglobal (unless --rerank names others)" in shown.getvalue()


def test_info_needs_an_index(tmp_path: Path) -> None:
    with pytest.raises(RelookError, match="no index here"):
        info(config_of(tmp_path))


def test_info_shows_every_name_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_index(tmp_path / "index")
    show_info(Console(width=100), info(config_of(tmp_path / "index")).to_json())
    shown = capsys.readouterr().out
    for word in ("images", "labels", "model", "fingerprint", "globals", "locals", "generation", "store table"):
        assert word in shown


# --- config -----------------------------------------------------------------------------------------------------------


def test_config_lists_every_key_of_the_default_file() -> None:
    import yaml

    def keys(values: object, prefix: str = "") -> set[str]:
        if not isinstance(values, dict):
            return {prefix[:-1]}
        return set().union(*(keys(value, f"{prefix}{name}.") for name, value in values.items()))

    written = keys(yaml.safe_load((ROOT / "configs" / "default.yaml").read_text(encoding="utf-8")))
    found = settings(Config())
    assert {one.key for one in found} == written
    assert all(one.value == one.default for one in found)
    unexplained = {one.key for one in found if not one.meaning}
    assert unexplained <= UNEXPLAINED, "a new setting needs a description"


# Settings whose name says it all.
PLAIN = ("epochs", "optimizer", "learning_rate")
UNEXPLAINED = {
    *("device", "seed", "rerank.chain", "describe.weights", "describe.locals.scales", "train_rerank.reranker"),
    *(f"train_{verb}.{key}" for verb in ("global", "rerank", "detector") for key in PLAIN),
    *(
        f"train_rerank.{name}.{key}"
        for name in ("rrt", "rrt_sop", "locore")
        for key in ("heads", "layers", "feedforward")
    ),
    *("train_rerank.rrt.dropout", "train_rerank.rrt_sop.dropout", "train_rerank.ames.heads"),
    *("train_rerank.ames.feedforward", "train_global.classification.name", "train_global.contrast.temperature"),
}


def test_config_shows_one_key_one_section_and_what_was_set() -> None:
    found = document("config", "search", "--set", "search.top_k=3")["settings"]
    assert [row["key"] for row in found] == [
        "search.top_k",
        "search.skip_itself",
        "search.like_weight",
        "search.unlike_weight",
    ]
    assert (found[0]["value"], found[0]["default"], found[0]["type"]) == (3, 10, "integer")
    with pytest.raises(UsageError, match=r"unknown setting 'search\.topk'; did you mean 'search\.top_k'\?"):
        settings(Config(), "search.topk")


def test_the_schema_describes_configuration_files() -> None:
    done = relook("config", "--schema")
    schema = json.loads(done.stdout)
    assert schema["properties"]["index"]["default"] == "relook-index"
    assert schema["additionalProperties"] is False


# --- duplicates -------------------------------------------------------------------------------------------------------


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    """Two parts: a and a2 have equal bytes, b and b2 are near (cosine 0.99), c and d alone, dead is deleted."""
    base = np.eye(8, dtype=np.float32)
    near = np.array([0, 0.99, 0, 0, 0, 0, 0, np.sqrt(1 - 0.99**2)], np.float32)
    rows = [("a", "x", base[0]), ("b", "y", base[1]), ("c", "", base[2])]
    more = [("b2", "z", near), ("dead", "x", base[0]), ("a2", "x", base[0]), ("d", "", base[3])]
    with IndexWriter(tmp_path / "index") as writer:
        writer.begin(make_card(local_dimension=0), {}, PHOTOS, "parquet")
        for part in (rows, more):
            writer.add([record(name, content) for name, content, _ in part], [Description(v) for *_, v in part])
        writer.delete(["dead"])
    return tmp_path / "index"


def test_duplicates_finds_equal_and_near_photos(collection: Path) -> None:
    found = duplicates(config_of(collection), 0.95)
    assert [(group.kind, [(m.id, m.similarity) for m in group.members]) for group in found.groups] == [
        ("equal", [("a", 1.0), ("a2", 1.0)]),
        ("near", [("b", 1.0), ("b2", 0.99)]),
    ]
    assert (found.images, found.redundant) == (6, 2)
    assert [group.kind for group in duplicates(config_of(collection), 0.995).groups] == ["equal"]
    assert [group.kind for group in duplicates(config_of(collection), 0.5, equal_only=True).groups] == ["equal"]


def test_duplicates_refuses_a_threshold_out_of_range(collection: Path) -> None:
    for threshold in (0.0, 1.5, float("nan")):
        with pytest.raises(UsageError, match="must be above 0 and at most 1"):
            duplicates(config_of(collection), threshold)


def test_the_page_of_duplicates_escapes_names(collection: Path, tmp_path: Path) -> None:
    found = duplicates(config_of(collection), 0.95).to_json()
    found["groups"][0]["members"][0]["id"] = "<script>alert(1)</script>"
    write_duplicates(tmp_path / "page.html", found)
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert "&lt;script&gt;" in text


def test_many_groups_are_read_together(tmp_path: Path) -> None:
    vectors = np.repeat(unit_vectors(3000, 8, seed=3), 2, axis=0)
    with IndexWriter(tmp_path / "index") as writer:
        writer.begin(make_card(local_dimension=0), {}, PHOTOS, "parquet")
        writer.add([record(f"{n:05d}", str(n // 2)) for n in range(6000)], [Description(v) for v in vectors])
    found = duplicates(config_of(tmp_path / "index"), equal_only=True)
    assert len(found.groups) == 3000
    assert all(member.similarity == pytest.approx(1, abs=1e-6) for group in found.groups for member in group.members)


# --- the help ---------------------------------------------------------------------------------------------------------


def test_every_verb_has_a_group_and_examples() -> None:
    verbs = [verb for group in GROUPS.values() for verb in group]
    assert len(verbs) == len(set(verbs)) == len(app.registered_commands)
    text = relook("--help").stdout
    for group, members in GROUPS.items():
        assert group in text
        for verb, examples in members.items():
            assert examples
            assert examples[-1].startswith(f"relook {verb}")  # those before it may make what it reads


def test_short_help_version_and_completion() -> None:
    assert relook("search", "-h").stdout == relook("search", "--help").stdout
    assert relook("--version").stdout == relook("version").stdout
    assert "--install-completion" in relook("--help").stdout
    words = {"COMP_WORDS": "relook sea", "COMP_CWORD": "1", "_RELOOK_COMPLETE": "complete_bash"}
    assert relook(**words).stdout.split() == ["search"]


def test_a_run_makes_the_options_of_its_verb_alone() -> None:
    every = list(app.registered_commands)
    kept = {("gc", "compact"): "gc", ("train-rerank",): "train_rerank", ("import", "-h"): "import_"}
    for words, name in kept.items():
        one = typer.Typer()
        one.registered_commands = list(every)
        keep_named(one, words)
        assert [command.callback.__name__ for command in one.registered_commands if command.callback] == [name]
    for words in ([], ["--version"], ["gcc"], ["-v", "gc"]):
        one.registered_commands = list(every)
        keep_named(one, words)
        assert one.registered_commands == every


@pytest.mark.parametrize("verb", ["info", "duplicates", "config", "map"])
def test_no_network_is_loaded(verb: str, collection: Path) -> None:
    words = [verb] if verb == "config" else [verb, "--index", str(collection)]
    code = (
        "import sys; from pipeline.cli import app; "
        f"app({[*words, '--json']!r}, standalone_mode=False); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
