"""The page and figures of an evaluation: its values, worst first, older documents, sorted in a browser."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from browser import browser, serious
from report_documents import photo, report

from pipeline.errors import UsageError
from pipeline.report import save_evaluation_figure, write_evaluation_page

__all__ = ["browser"]

NAMES = ["<script>alert(1)</script>", "b \"quoted\" 'name'", "東京 \udcff", "d " * 400, "e"]


def table(text: str) -> list[list[str]]:
    """The cells of the table of queries."""
    body = text[text.index('id="queries"') :]
    body = body[body.index("<tbody>") : body.index("</tbody>")]
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.S) for row in body.split("<tr>")[1:]]
    return [[re.sub(r"<[^>]+>", "", cell) for cell in row] for row in rows]


def test_the_columns_equal_the_document(tmp_path: Path) -> None:
    made = report(tmp_path, NAMES)
    write_evaluation_page(tmp_path / "page.html", [made])
    rows = table((tmp_path / "page.html").read_text(encoding="utf-8"))
    wanted = sorted(made["per_query"], key=lambda row: row["reranked"]["mAP"])
    assert [row[2] for row in rows] == [f"{100 * row['global']['mAP']:.2f}" for row in wanted]
    assert [row[3] for row in rows] == [f"{100 * row['reranked']['mAP']:.2f}" for row in wanted]
    assert [row[4] for row in rows] == [f"{100 * (r['reranked']['mAP'] - r['global']['mAP']):+.2f}" for r in wanted]
    assert [row[5] for row in rows] == [f"{100 * row['reranked']['R@1']:.2f}" for row in wanted]


def test_names_are_escaped_and_worst_queries_have_pictures_and_signs(tmp_path: Path) -> None:
    write_evaluation_page(tmp_path / "page.html", [report(tmp_path, NAMES)])
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert r"東京 \udcff" in text
    assert text.count('class="photo same"') == 5 * 2
    assert text.count('class="photo other"') == 5 * 2
    assert len(re.findall(r'<span class="sign">[✓✗]</span> +\d (?:right|wrong)', text)) == 5 * 4
    assert "http" not in text


def test_every_chain_is_a_row_and_a_line(tmp_path: Path) -> None:
    first, second = report(tmp_path, ["a", "b"]), report(tmp_path, ["a", "b"], ("superglobal", "matching"))
    write_evaluation_page(tmp_path / "page.html", [first, second])
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    for name in ("global search", "rrt", "superglobal, matching"):
        assert f'<th scope="row">{name}</th>' in text
        assert len(re.findall(rf"<text[^>]*>{name}</text>", text)) >= 1
    assert "[14.0, 24.0]" in text
    assert "re-ranking: superglobal, matching" in text


def test_documents_of_earlier_versions_and_without_re_ranking(tmp_path: Path) -> None:
    old, alone = report(tmp_path, ["a", "b"]), report(tmp_path, ["a", "b"], ())
    del old["curves"], old["global_intervals"]
    for row in old["per_query"]:
        del row["answers"]
    alone["per_query"][0]["global"]["mAP"] = None
    for number, made in enumerate((old, alone)):
        page = tmp_path / f"{number}.html"
        write_evaluation_page(page, [made])
        text = page.read_text(encoding="utf-8")
        assert len(table(text)) == 2 - number
        assert text.count("<svg") == (1, 3)[number]
        save_evaluation_figure(tmp_path / f"{number}.svg", [made])


def test_a_photo_that_is_gone(tmp_path: Path) -> None:
    made = report(tmp_path, ["a"])
    (tmp_path / "0.png").unlink()
    write_evaluation_page(tmp_path / "page.html", [made])
    assert (tmp_path / "page.html").read_text().count("cannot be read any more") == 2


@pytest.mark.parametrize(("ending", "begins"), [("pdf", b"%PDF"), ("svg", b"<?xml"), ("png", b"\x89PNG")])
def test_figures_for_papers_are_the_same_each_time(tmp_path: Path, ending: str, begins: bytes) -> None:
    made = report(tmp_path, ["a", "b"])
    files = [tmp_path / f"{number}.{ending}" for number in range(2)]
    for file in files:
        save_evaluation_figure(file, [made])
    first, second = (file.read_bytes() for file in files)
    assert first == second
    assert first.startswith(begins)


def test_a_figure_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"out\.gif: a figure is written as \.pdf, \.svg or \.png"):
        save_evaluation_figure(tmp_path / "out.gif", [report(tmp_path, ["a"])])


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_the_page_in_a_browser(browser: Any, tmp_path: Path, scheme: Any, width: int) -> None:
    photo(tmp_path / "x.png")
    write_evaluation_page(tmp_path / "page.html", [report(tmp_path, ["c", "b", "a", "d"])])
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    failures: list[str] = []
    page.on("pageerror", lambda error: failures.append(str(error)))
    page.on("request", lambda request: request.url.startswith(("file:", "data:")) or failures.append(request.url))
    page.goto((tmp_path / "page.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert not serious(page)

    first = page.locator("#queries tbody th")
    assert first.all_inner_texts() == ["c", "b", "a", "d"]
    page.get_by_role("button", name="query", exact=True).click()
    assert first.all_inner_texts() == ["a", "b", "c", "d"]
    page.get_by_role("button", name="AP after").click()
    page.get_by_role("button", name="AP after").click()
    assert first.all_inner_texts() == ["d", "a", "b", "c"]
    page.locator("#filter").fill("b")
    assert page.locator("#queries tbody tr:visible").count() == 1
    assert not failures
    page.close()
