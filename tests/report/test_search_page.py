"""The page of a search: file, label and link of each result, names escaped, few pictures inside and many beside it."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import pytest
from browser import browser, serious
from report_documents import photo

from pipeline.report import write_search

__all__ = ["browser"]

HOSTILE = [
    "<script>alert(1).jpg",
    "\"quotes' & <b>.jpg",
    "not utf-8 \udcff.jpg",
    "a very long name " * 14 + ".jpg",
    "東京 #1 100%.jpg",
]


def hit(path: Path | str, rank: int = 1, label: str = "cat", **more: Any) -> dict[str, Any]:
    scores = {"score": 0.5, "global_rank": rank + 1, "global_score": 0.4}
    return {"rank": rank, "id": f"id{rank}", "path": str(path), "label": label, **scores, **more}


def query(path: Path | str, *results: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"query": str(path), "path": str(path), "bbox": None, "label": "cat", "results": list(results), **more}


def document(*queries: dict[str, Any], weights: str = "packaged weights") -> dict[str, Any]:
    return {"queries": list(queries), "rerank": ["superglobal"], "weights": weights, "seconds": 1.0}


def evaluation(chain: list[str], value: float) -> dict[str, Any]:
    metrics = {"mAP": value}
    change = {"mAP": value - 50, "mAP_se": 1.0}
    common = {"queries": 8, "gallery": 9, "split": "val", "rerank": chain, "weights": "packaged"}
    return {**common, "global": {"mAP": 50.0}, "reranked": metrics, "difference": change}


def test_a_result_shows_file_and_label_and_leads_to_the_file(tmp_path: Path) -> None:
    page, first, second = tmp_path / "page.html", photo(tmp_path / "one.jpg"), photo(tmp_path / "two.jpg", 1)
    write_search(page, document(query(first, hit(second), hit(first, 2, "dog"))))
    text = page.read_text(encoding="utf-8")
    for path in (first, second):
        assert f'href="{path.as_uri()}">{path.name}</a>' in text
    assert text.count('class="photo same"') == text.count('class="photo other"') == 1
    assert text.count("same label</span>") == text.count("other label</span>") == 1
    assert "http" not in text
    assert text.count("data:image/jpeg;base64,") == 3
    assert not (tmp_path / "page_files").exists()


def test_names_are_escaped(tmp_path: Path) -> None:
    files = [photo(tmp_path / name) for name in HOSTILE if "\udcff" not in name]
    hits = [hit(path, rank, label=path.name) for rank, path in enumerate(files, 1)]
    gone = [hit(tmp_path / name, 9, label=name) for name in HOSTILE]
    write_search(tmp_path / "page.html", document(query(files[0], *hits, *gone, label=HOSTILE[0])))
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert "<b>" not in text
    assert r"not utf-8 \udcff" in text
    assert "not%20utf-8%20%FF.jpg" in text or text.count("cannot be read any more") == 5
    for name in HOSTILE[:2]:
        assert str(html.escape(name)) in text.replace("&#34;", "&quot;").replace("&#39;", "&#x27;")


def test_a_photo_that_is_gone_and_a_query_that_failed(tmp_path: Path) -> None:
    first = photo(tmp_path / "one.jpg")
    failed = {"query": "bad.jpg", "error": "not a picture", "results": []}
    write_search(tmp_path / "page.html", document(query(first, hit(tmp_path / "gone.jpg")), failed))
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert text.count("the photo cannot be read any more") == 1
    assert "bad.jpg: not a picture" in text


def test_documents_of_earlier_versions_and_queries_without_a_file(tmp_path: Path) -> None:
    first = photo(tmp_path / "one.jpg")
    old = query(first, hit(first))
    del old["path"], old["bbox"]
    write_search(tmp_path / "page.html", document(old, {**query("-", hit(first)), "path": ""}))
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert text.count("data:image/jpeg;base64,") == 3
    assert "read from stdin" in text


def test_every_chain_that_was_tried_is_a_row(tmp_path: Path) -> None:
    measured = [evaluation(["superglobal"], 60.0), evaluation(["rrt"], 49.5)]
    write_search(tmp_path / "page.html", document(query(photo(tmp_path / "a.jpg"))), measured)
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert '<th scope="row">superglobal</th><td>60.00</td><td>+10.00 ± 1.00</td>' in text
    assert '<th scope="row">rrt</th><td>49.50</td><td>-0.50 ± 1.00</td>' in text


def test_a_thousand_queries_have_their_pictures_beside_the_page(tmp_path: Path) -> None:
    files = [photo(tmp_path / f"{n}.jpg", n) for n in range(5)]
    queries = [query(files[n % 5], *(hit(files[(n + k) % 5], k + 1) for k in range(10))) for n in range(1000)]
    (tmp_path / "page_files").mkdir()
    (tmp_path / "page_files" / "mine.jpg").write_bytes(b"kept")
    (tmp_path / "page_files" / f"{'a' * 20}.jpg").write_bytes(b"of an earlier page")
    write_search(tmp_path / "page.html", document(*queries))
    assert (tmp_path / "page.html").stat().st_size < 15_000_000
    kept = {path.name for path in (tmp_path / "page_files").iterdir()}
    assert len(kept) == 6
    assert "mine.jpg" in kept
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert text.count('loading="lazy"') == 11_000
    assert "data:image" not in text


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_the_page_in_a_browser(browser: Any, tmp_path: Path, scheme: Any, width: int) -> None:
    files = [photo(tmp_path / f"{n} é.jpg", n) for n in range(3)]
    boxed = query(files[0], *(hit(path, n) for n, path in enumerate(files, 1)), bbox=[100, 75, 300, 225])
    other = [query(files[1], hit(files[2]), query=f"dog {n}", label="dog") for n in range(6)]
    write_search(tmp_path / "page.html", document(boxed, *other))
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    failures: list[str] = []
    page.on("pageerror", lambda error: failures.append(str(error)))
    page.on("request", lambda request: request.url.startswith(("file:", "data:")) or failures.append(request.url))
    page.goto((tmp_path / "page.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert not serious(page)

    page.locator("a.full").first.click()
    frame = page.locator("dialog .box")
    frame.wait_for()
    assert frame.evaluate("box => [box.style.left, box.style.top, box.style.width]") == ["25%", "25%", "50%"]
    page.keyboard.press("ArrowRight")
    assert "1 · cat" in page.locator("dialog p").inner_text()
    page.keyboard.press("Escape")
    assert not page.locator("dialog").is_visible()

    page.locator("#filter").fill("dog")
    assert page.locator("section.query:visible").count() == 6
    assert page.locator("#count").inner_text() == "6 of 7"
    assert not failures
    page.close()
