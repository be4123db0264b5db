"""The pages of comparisons, trainings, maps and indexes: what they show, and that they work in a browser."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import browser, serious
from report_documents import photo, report

from pipeline.report import save_comparison_figure, write_comparison, write_index_page, write_map, write_training
from pipeline.stages.compare import compare

__all__ = ["browser"]

TRAINING = {
    **{"checkpoint": "<b>.safetensors", "epochs": 2, "best": {"epoch": 2, "mAP": 60.0}, "anchors": 8},
    **{"validation_queries": 4, "seconds": 3.0, "weights": "packaged", "warning": "changes <nothing>"},
    "history": [
        {"epoch": 1, "loss": 0.5, "mAP": 50.0, "global mAP": 55.0, "weight": 0.5},
        {"epoch": 2, "loss": 0.25, "mAP": 60.0, "global mAP": 55.0, "weight": 0.5},
    ],
}


def opened(browser: Any, file: Path, scheme: Any = "light", width: int = 1280) -> tuple[Any, list[str]]:
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    failures: list[str] = []
    page.on("pageerror", lambda error: failures.append(str(error)))
    page.on("request", lambda request: request.url.startswith(("file:", "data:")) or failures.append(request.url))
    page.goto(file.as_uri())
    return page, failures


def map_document(folder: Path, count: int) -> dict[str, Any]:
    files = [photo(folder / f"{n} <é>.png", n) for n in range(min(count, 4))]
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return {
        "index": "my <index>",
        "method": "pca",
        "ids": [f"</script><b>{n}" for n in range(count)],
        "paths": [str(files[n % len(files)]) for n in range(count)],
        "labels": [("cat", "dog", "")[n % 3] for n in range(count)],
        "xy": [[0.5 + np.cos(a) / 2, 0.5 + np.sin(a) / 2] for a in angles],
        "clusters": [n % 2 for n in range(count)],
        "seconds": 1.0,
    }


def test_a_comparison_has_plots_and_the_numbers_of_its_document(browser: Any, tmp_path: Path) -> None:
    (tmp_path / "evaluation.json").write_text(json.dumps(report(tmp_path, ["a", "<i>", "c", "d"])))
    document = compare(tmp_path).to_json()
    write_comparison(tmp_path / "page.html", document)
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert text.count("<svg") == 4
    row = document["metrics"]["mAP"]
    assert f"<td>{row['before']:.2f}</td><td>{row['after']:.2f}</td><td>{row['difference']:+.2f}</td>" in text
    assert len(re.findall(r"better: 3<", text)) == 1
    assert "<i>" not in text
    save_comparison_figure(tmp_path / "figure.pdf", document)
    assert (tmp_path / "figure.pdf").read_bytes().startswith(b"%PDF")
    page, failures = opened(browser, tmp_path / "page.html", "dark", 390)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert not serious(page)
    assert not failures
    page.close()


def test_a_comparison_of_queries_that_are_all_equal(tmp_path: Path) -> None:
    made = report(tmp_path, ["a", "b"])
    for row in made["per_query"]:
        row["reranked"] = row["global"]
    (tmp_path / "evaluation.json").write_text(json.dumps(made))
    write_comparison(tmp_path / "page.html", compare(tmp_path).to_json())
    assert (tmp_path / "page.html").read_text().count("<svg") == 4


def test_a_training_shows_its_curves_and_what_is_kept(browser: Any, tmp_path: Path) -> None:
    write_training(tmp_path / "page.html", TRAINING, [0.6, 0.4, 0.3, 0.2])
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert text.count("<svg") == 2
    assert "&lt;b&gt;.safetensors" in text
    assert "changes &lt;nothing&gt;" in text
    assert '<tr class="best"><th scope="row">2</th><td>0.250</td><td>60.000</td>' in text
    page, failures = opened(browser, tmp_path / "page.html", "dark")
    assert not serious(page)
    assert not failures
    page.close()


def test_a_training_without_validation_and_of_one_step(tmp_path: Path) -> None:
    alone = {**TRAINING, "history": [{"epoch": 1, "loss": 0.5}], "best": {"epoch": 1}, "epochs": 1}
    write_training(tmp_path / "page.html", alone, [0.5])
    assert (tmp_path / "page.html").read_text().count("<svg") == 1


def test_a_map_holds_every_place(tmp_path: Path) -> None:
    made = map_document(tmp_path, 1200)
    write_map(tmp_path / "page.html", made)
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])
    xy = np.frombuffer(base64.b64decode(data["xy"]), "<u2").reshape(-1, 2) / 65535
    assert np.abs(xy - made["xy"]).max() < 1e-4
    labels = np.frombuffer(base64.b64decode(data["label"]), "<u4")
    assert [data["labels"][n] for n in labels] == made["labels"]
    assert data["ids"] == made["ids"]
    assert data["thumbnails"] == []  # too many: the photos themselves are shown
    assert "</script><b>" not in text


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_the_map_in_a_browser(browser: Any, tmp_path: Path, scheme: Any, width: int) -> None:
    write_map(tmp_path / "page.html", map_document(tmp_path, 4))
    page, failures = opened(browser, tmp_path / "page.html", scheme, width)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert not serious(page)
    page.wait_for_function("pixels !== null")
    # The first point lies at the right: y in the middle.
    x, y = page.evaluate(
        "() => { const { side, left, top } = frame(); return [(left + side) / devicePixelRatio, "
        "(top + (1 - xy[1] / 65535) * side) / devicePixelRatio] }"
    )
    page.hover("#plane", position={"x": x - 2, "y": y})
    page.locator("#card").wait_for()
    assert page.locator("#card p").inner_text() == "cat\n</script><b>0"
    assert page.locator("#card img").get_attribute("src").startswith("data:image/jpeg")
    page.get_by_role("button", name="dog").click()
    page.locator("#filter").fill("dog")
    assert page.locator("#count").inner_text() == "1 of 4"
    page.locator("#by").select_option("cluster")
    assert page.locator("#legend li").count() == 2
    page.locator("#plane").press("+")
    assert page.evaluate("plane.scale") == pytest.approx(1.4)
    assert not failures
    page.close()


def test_a_hundred_thousand_points_are_drawn_quickly(browser: Any, tmp_path: Path) -> None:
    write_map(tmp_path / "page.html", map_document(tmp_path, 100_000))
    assert (tmp_path / "page.html").stat().st_size < 12_000_000
    page, failures = opened(browser, tmp_path / "page.html")
    page.wait_for_function("pixels !== null")
    code = "() => { const t = performance.now(); for (let n = 0; n < 5; n++) paint(); return performance.now() - t; }"
    assert page.evaluate(code) / 5 < 150  # 20 ms without a graphics card; this machine may have other work
    assert not failures
    page.close()


def test_the_page_of_an_index(browser: Any, tmp_path: Path) -> None:
    info = {
        **{"index": "my <index>", "images": 2, "parts": 1, "deleted": 0, "failures": 1, "splits": {}},
        **{"labels": {"labels": 1, "labelled": 2, "distractors": 0}, "fingerprint": "0", "representations": {}},
        "model": {"name": "m", "architecture": "a", "dimension": 2, "weights": "w"},
        **{
            "generation": 1,
            "complete": True,
            "updated": "now",
            "age_seconds": 1,
            "earlier": [],
            "changing": None,
            "shards": None,
        },
        **{"rerankers": [], "default_chain": None, "fusion": None, "stores": [], "last_run": None},
    }
    one = {"id": "<i>", "path": str(photo(tmp_path / "a.png")), "label": "", "similarity": 0.25}
    groups = {"groups": [{"kind": "near", "members": [one, one]}], "redundant": 1, "threshold": 0.95}
    failed = {"id": "bad.jpg", "path": "bad.jpg", "reason": "not a <picture>"}
    write_index_page(tmp_path / "page.html", info, groups, [one], [failed])
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert text.count("data:image/jpeg") == 3
    assert "not a &lt;picture&gt;" in text
    assert "<i>" not in text
    page, failures = opened(browser, tmp_path / "page.html", "light", 390)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert not serious(page)
    assert not failures
    page.close()
    write_index_page(tmp_path / "empty.html", {**info, "images": 0}, None, [], [])
