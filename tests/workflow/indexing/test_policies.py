"""What `extract` and `reindex` share: the guard, labels over a folder, signals, and one pass through the network."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_helpers import ROOT, document, relook
from stores_helpers import content
from tiny import paint, tiny, tiny_config

from pipeline.config import Config, parse_config
from pipeline.errors import RelookError
from pipeline.stages.extract import extract
from pipeline.stages.reindex import reindex
from pipeline.stores import Index
from pipeline.workflow.stop import Stop

__all__ = ["tiny"]
VERBS = {"extract": extract, "reindex": reindex}


def config_of(home: Path, **catalog: Any) -> Config:
    config = tiny_config(home)
    settings = {"catalog": config.catalog.model_copy(update={"labels": "none", **catalog})}
    guard = config.reindex.model_copy(update={"max_removed": 0.5})
    return config.model_copy(update={**settings, "reindex": guard})


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for number in range(10):
        paint(tmp_path / "photos" / f"{number}.png", number)
    return tmp_path


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("verb", VERBS)
class TestBoth:
    def test_a_large_loss_is_refused_and_a_small_one_is_said(
        self, home: Path, verb: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO", logger="relook")
        run, config = VERBS[verb], config_of(home)
        assert run(config).added == 10
        shutil.copytree(home / "photos", home / "kept")
        for number in range(6):
            (home / "photos" / f"{number}.png").unlink()
        before = content(Index(home / "index"))
        with pytest.raises(RelookError, match=r"6 of 10 images are gone.*--max-removed 1.*--rollback"):
            run(config)
        assert content(Index(home / "index")) == before
        (home / "kept" / "0.png").replace(home / "photos" / "0.png")
        result = run(config)
        assert (result.removed, result.images) == (5, 5)
        assert "5 of 10 images are gone and leave the index, the first is 1.png" in caplog.text

    def test_labels_of_a_table_lie_over_a_folder(
        self, home: Path, verb: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run, labels = VERBS[verb], home / "labels.csv"
        labels.write_text("path,label\n0.png,cup\n1.png,plate\nphotos/2.png,fork\n")
        config = config_of(home, labels_file=labels)
        assert run(config).unmatched == 0

        def found() -> dict[str, str]:
            return {name: record.label for name, record in Index(home / "index").records.items() if record.label}

        assert found() == {"0.png": "cup", "1.png": "plate", "2.png": "fork"}
        labels.write_text("path,label\n0.png,mug\n1.png,plate\ngone.png,spoon\nold/3.png,\n")
        paint(home / "photos" / "new.png", 50)
        assert run(config).added == 1
        assert found() == {"0.png": "mug", "1.png": "plate"}
        assert "labels.csv: 2 rows name no photo of" in caplog.text

        def refuse(config: Config) -> None:
            raise AssertionError("a network is loaded")

        monkeypatch.setattr("pipeline.workflow.model_loading.new_describer", refuse)
        labels.write_text("path,label\n0.png,cup\n")
        result = run(config)
        assert (result.relabelled, result.added, result.changed, result.unmatched) == (2, 0, 0, 0)
        for text, reason in (("path,label\nx.png,cup\n", "none of its 1 rows"), ("path,label\n0.png,\n", "no labels")):
            labels.write_text(text)
            with pytest.raises(RelookError, match=reason):
                run(config)
        assert found() == {"0.png": "cup"}

    def test_a_stopped_run_commits_what_it_finished(self, home: Path, verb: str) -> None:
        run, config = VERBS[verb], config_of(home)
        stop = Stop()
        seen = iter(range(6))
        stop.until = lambda items: (item for item, _ in zip(items, seen, strict=False))  # type: ignore[method-assign]
        run(config, None, None, stop)
        (home / "photos" / "9.png").unlink()
        late = Stop()
        late.request("SIGINT")
        result = run(config, None, None, late)
        assert (result.outcome, result.stopped, result.added, result.removed) == ("stopped", "SIGINT", 0, 0)
        assert json.loads((home / "index" / "runs" / "latest.json").read_text())["verb"] == verb
        assert run(config).outcome == "done"
        assert Index(home / "index").manifest.counts["images"] == 9


@pytest.mark.parametrize("verb", VERBS)
def test_a_signal_ends_either_verb_between_two_parts(tmp_path: Path, verb: str) -> None:
    for number in range(400):
        paint(tmp_path / "photos" / f"{number:03d}.png", number)
    arguments = [verb, "--images", str(tmp_path / "photos"), "--index", str(tmp_path / "index"), "--json"]
    settings = ["extract.part_size=2", "describe.image.size=64", "describe.globals.scales=[1]", "extract.batch_size=1"]
    settings += ["describe.locals.count=0"]
    flags = [flag for setting in settings for flag in ("--set", setting)]
    run = subprocess.Popen(
        [sys.executable, str(ROOT / "cli.py"), *arguments, *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for _ in range(1200):
        if len(list((tmp_path / "index" / "globals").glob("*.parquet"))) > 1:
            break
        time.sleep(0.05)
    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=60)
    assert run.returncode == 0, err
    result = json.loads(out)
    assert (result["outcome"], result["stopped"]) == ("stopped", "SIGINT")
    assert 0 < result["added"] < 400
    assert result["images"] == result["added"]
    assert "SIGINT" in err


def test_the_guard_on_the_command_line(tmp_path: Path) -> None:
    for number in range(4):
        paint(tmp_path / "photos" / f"{number}.png", number)
    quick = ["--set", "describe.image.size=64", "--set", "describe.locals.count=0"]
    arguments = ["extract", str(tmp_path / "photos"), "--index", str(tmp_path / "index"), *quick]
    assert document(*arguments)["added"] == 4
    for number in range(3):
        (tmp_path / "photos" / f"{number}.png").unlink()
    refused = relook(*arguments)
    assert refused.returncode == 1
    assert "3 of 4 images are gone" in refused.stderr
    assert document(*arguments, "--max-removed", "1")["removed"] == 3
    twice = relook(*arguments, "--images", str(tmp_path / "photos"))
    assert twice.returncode == 2


def _describe(folder: Path, count: int, name: str, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, Any], int]:
    """An index of photos whose projections are fitted on `count` of them, and how many pictures the network saw."""
    from pipeline.describe.describer import NetworkDescriber

    seen = 0
    observe = NetworkDescriber.observe

    def counted(self: NetworkDescriber, batch: Any) -> Any:
        nonlocal seen
        seen += len(batch)
        return observe(self, batch)

    values = {
        "index": str(folder / name),
        "device": "cpu",
        "describe": {
            "runtime": "torch",  # a graph that is carried is compared on two pictures more
            "image": {"size": 64},
            "fit_images": count,
            "globals": {"scales": [1.0], "whiten": 4},
            "locals": {"count": 6, "dimension": 4, "scales": [1.0]},
        },
        "extract": {"workers": 2, "batch_size": 2},
    }
    with monkeypatch.context() as patch:
        patch.setattr(NetworkDescriber, "observe", counted)
        extract(parse_config(values, "tests"), str(folder / "photos"))
    return content(Index(folder / name)), seen


@pytest.mark.parametrize(("count", "kept"), [(12, None), (7, None), (12, 160_000)])
def test_photos_that_projections_are_fitted_on_pass_the_network_once(
    tmp_path: Path, count: int, kept: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(12):
        fields = np.random.default_rng(number).integers(0, 255, (6, 8, 3), dtype=np.uint8)
        _save(tmp_path / "photos" / f"{number:02d}.png", fields, (96, 64) if number % 3 else (64, 96))
    # Whole blocks are kept: of three batches of two photos one block of four.
    monkeypatch.setattr("pipeline.workflow.model_loading._BLOCK", 4)
    monkeypatch.setattr("pipeline.workflow.model_loading._BLOCK_BATCHES", 1)
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.workflow.indexing.fitting._KEPT_BYTES", 0)
        twice, pictures = _describe(tmp_path, count, "twice", monkeypatch)
    assert pictures == 12 + count
    if kept is not None:
        monkeypatch.setattr("pipeline.workflow.indexing.fitting._KEPT_BYTES", kept)
    once, pictures = _describe(tmp_path, count, "once", monkeypatch)
    assert once == twice  # to the last bit
    # Of a part of the collection whole blocks are kept: 4 of 7 photos.
    assert pictures == (12 if count == 12 else 12 + 7 - 4) if kept is None else 12 < pictures < 24


def _save(path: Path, fields: Any, size: tuple[int, int]) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(fields).resize(size, Image.Resampling.NEAREST).save(path)
