"""docs/performance.md is what `python -m benchmarks --page` makes of the figures that lie beside the scripts."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import __main__ as gathering
from benchmarks import performance_page


def test_the_page_is_that_of_the_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    committed = performance_page.PAGE.read_text(encoding="utf-8")
    monkeypatch.setattr(performance_page, "ROOT", tmp_path)
    monkeypatch.setattr(performance_page, "PAGE", tmp_path / "performance.md")
    monkeypatch.setattr(performance_page, "PLOT", tmp_path / performance_page.PLOT.name)
    monkeypatch.setattr("sys.argv", ["benchmarks", "--page"])
    gathering.main()
    assert (tmp_path / "performance.md").read_text(encoding="utf-8") == committed


def test_every_gathered_script_is_there() -> None:
    for script, _, _ in gathering.SUITE.values():
        text = (gathering.ROOT / "benchmarks" / script).read_text(encoding="utf-8")
        assert '"--json"' in text, script
