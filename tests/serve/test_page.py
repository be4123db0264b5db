"""The page in a real browser, Debian's Chromium without a screen: what people do with it, and what axe-core finds."""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from photos import make_photo
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright
from served import make_served, served_config, serving
from tiny import paint, tiny_config

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
FIRST = "tower/tower 0.png"
HALF = ["0", "0", "120", "200"]
# Ends of the full view's lines, those on the query first, and middles of its points in the same order.
LINES_AND_POINTS = """() => {
  const corner = document.querySelector("#viewer-pair").getBoundingClientRect();
  const lines = [...document.querySelectorAll("#viewer .lines line")];
  const end = (line, which) => ["x", "y"].map((axis) => Number(line.getAttribute(axis + which)));
  const middles = [...document.querySelectorAll("#viewer .point")].map((point) => {
    const box = point.getBoundingClientRect();
    return [box.x + box.width / 2 - corner.x, box.y + box.height / 2 - corner.y];
  });
  return [["1", "2"].flatMap((which) => lines.map((line) => end(line, which))), middles];
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for all tests."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        reason = "needs Chromium: apt-get install chromium"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=found, args=list(FLAGS))
        yield made
        made.close()


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """The page of the server, which must not report an error."""
    yield from opened(browser, address)


def opened(browser: Browser, address: str, **options: object) -> Iterator[Page]:
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, "reduced_motion": "reduce", **options})  # type: ignore[arg-type]
    context.set_default_timeout(20_000)
    errors: list[str] = []
    made = context.new_page()
    made.on("pageerror", lambda error: errors.append(str(error)))
    made.on("requestfailed", lambda request: errors.append(request.url) if address not in request.url else None)
    made.goto(address)
    expect(made.locator("#rerank option")).not_to_have_count(0)
    yield made
    assert not errors
    context.close()


def cards(page: Page) -> Locator:
    return page.locator("#grid > li")


def first_is(page: Page, name: str) -> None:
    expect(page.locator("#status")).to_contain_text("re-ranked with superglobal.")
    expect(cards(page).first).to_have_attribute("data-id", name)


def serious(page: Page) -> list[str]:
    """What axe-core finds that is serious."""
    found = Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {one['nodes'][0]['html'][:200]} {one['nodes'][0]['failureSummary']}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


def upload(page: Page, home: Path) -> None:
    page.set_input_files("#file", home / "photos" / FIRST)
    first_is(page, FIRST)


def test_an_upload_its_order_and_its_reasons(page: Page, home: Path) -> None:
    expect(page.locator("#start-grid li")).to_have_count(12)
    upload(page, home)
    expect(page.locator(".moved")).to_have_count(10)
    expect(cards(page).first).to_contain_text("was 1.000")
    expect(cards(page).first).to_contain_text("tower 0.png")
    expect(cards(page).first).to_contain_text("neighbours")
    assert not serious(page)


def test_paste(page: Page, home: Path) -> None:
    data = base64.b64encode((home / "photos" / FIRST).read_bytes()).decode()
    page.evaluate(
        """(text) => {
          const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
          const given = new DataTransfer();
          given.items.add(new File([bytes], "pasted.png", { type: "image/png" }));
          document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: given, bubbles: true }));
        }""",
        data,
    )
    first_is(page, FIRST)
    expect(page.locator("#query-name")).to_have_text("pasted.png")


def test_a_click_searches_and_back_returns(page: Page, home: Path) -> None:
    page.click("#browse")
    page.fill("#browser-text", "bridge 2")
    expect(page.locator("#browser-count")).to_have_text("1 photo")
    assert not serious(page)
    page.click("#browser-grid button")
    expect(page.locator("#query-name")).to_have_text("bridge · bridge 2.png")
    expect(page.locator("#status")).to_contain_text("re-ranked")
    found = cards(page).first.get_attribute("data-id")
    cards(page).first.locator(".photo").click()
    expect(page.locator("#query-name")).to_contain_text((found or "").split("/")[1])
    page.go_back()
    expect(page.locator("#query-name")).to_have_text("bridge · bridge 2.png")


def test_a_box(page: Page, home: Path, tmp_path: Path) -> None:
    page.set_input_files("#file", make_photo(tmp_path / "large.png", (240, 200)))
    expect(page.locator("#status")).to_contain_text("re-ranked with superglobal.")
    layer = page.locator("#box-layer")
    layer.scroll_into_view_if_needed()
    place = layer.bounding_box()
    assert place
    with page.expect_request("**/search/stream"):
        page.mouse.move(place["x"] + 1, place["y"] + 1)
        page.mouse.down()
        page.mouse.move(place["x"] + place["width"] / 2, place["y"] + place["height"] - 1, steps=4)
        page.mouse.up()
    drawn = [int(page.input_value(f"#{name}")) for name in ("x0", "y0", "x1", "y1")]
    assert [abs(found - wanted) < 4 for found, wanted in zip(drawn, (1, 1, 120, 199), strict=True)] == [True] * 4
    expect(page.locator("#status")).to_contain_text("re-ranked")
    page.click("#box-fields summary")
    for name, value in zip(("x0", "y0", "x1", "y1"), HALF, strict=True):
        page.fill(f"#{name}", value)
    with page.expect_request("**/search/stream"):
        page.press("#y1", "Enter")
        page.locator("#y1").blur()
    with page.expect_request("**/search/stream"):
        page.click("#box-clear")


def test_filters(page: Page, home: Path) -> None:
    upload(page, home)
    page.fill("#label", "bridge")
    expect(page.locator("#label-chips li")).to_have_count(1)
    expect(cards(page)).to_have_count(4)
    page.fill("#text", "3.png")
    expect(cards(page)).to_have_count(1)
    page.fill("#text", "nothing")
    expect(page.locator("#status")).to_contain_text("No photo fits the filters.")
    page.click("#filters button[type=reset]")
    expect(cards(page)).to_have_count(10)
    page.select_option("#rerank", "none")
    expect(page.locator("#status")).to_contain_text("global search")
    expect(page.locator(".moved")).to_have_count(0)
    page.locator("#depth").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#depth-value")).to_have_text("10")


def test_the_keyboard_and_the_full_view(page: Page, home: Path) -> None:
    upload(page, home)
    cards(page).first.locator(".photo").focus()
    page.keyboard.press("ArrowRight")
    expect(cards(page).nth(1).locator(".photo")).to_be_focused()
    page.keyboard.press("v")
    expect(page.locator("#viewer")).to_be_visible()
    expect(page.locator("#viewer-title")).to_contain_text("2.")
    expect(page.locator("#viewer-facts h3")).to_have_text("Why (superglobal)")
    expect(page.locator(".neighbours li").first).to_be_visible()
    assert not serious(page)
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#viewer-title")).to_contain_text("1.")
    page.keyboard.press("Escape")
    expect(page.locator("#viewer")).to_be_hidden()
    page.keyboard.press("/")
    expect(page.locator("#text")).to_be_focused()
    page.locator("#text").blur()
    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()


def test_more_and_less_like_a_result(page: Page, home: Path) -> None:
    upload(page, home)
    third = cards(page).nth(2).get_attribute("data-id")
    cards(page).nth(2).locator(".view").click()
    page.click("#viewer-like")
    expect(page.locator("#viewer")).to_be_hidden()
    expect(page.locator("#feedback li")).to_have_count(1)
    expect(page.locator("#feedback")).to_contain_text(f"More like {(third or '').split('/')[1]}")
    expect(page.locator("#status")).to_contain_text("re-ranked")
    assert not serious(page)
    page.click("#feedback button")
    expect(page.locator("#feedback li")).to_have_count(0)
    first_is(page, FIRST)
    cards(page).nth(1).locator(".view").click()
    page.click("#viewer-unlike")
    expect(page.locator("#feedback")).to_contain_text("Less like")
    page.set_input_files("#file", home / "photos" / "bridge/bridge 2.png")  # another query begins without marks
    expect(page.locator("#feedback li")).to_have_count(0)


def test_a_phone_in_the_dark(browser: Browser, address: str, home: Path) -> None:
    options = {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark", "has_touch": True}
    for page in opened(browser, address, **options):
        upload(page, home)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(18, 24, 27)"
        expect(page.locator("#options")).not_to_have_attribute("open", "")
        assert not serious(page)


def assert_lines_end_in_points(page: Page, count: int) -> None:
    """Each line of the full view goes from the middle of a point on the query to that of one on the result."""
    for _ in range(100):  # lines are drawn again after the photos have another size
        ends, middles = page.evaluate(LINES_AND_POINTS)
        if len(ends) == 2 * count and np.allclose(ends, middles, atol=1):
            return
        page.wait_for_timeout(20)
    raise AssertionError(f"lines end at {ends}, points are at {middles}")


def test_matched_points_are_drawn(page: Page, home: Path) -> None:
    """The document of a search is the server's; here it is given, since matching needs a network."""
    found = {"rank": 1, "id": FIRST, "path": FIRST, "label": "tower", "split": "", "width": 8, "height": 8, "group": 1}
    found |= {"score": 0.9, "global_rank": 3, "global_score": 0.8, "scores": {"matching": 0.9}}
    points = [{"query": [1, 2], "image": [3, 4], "score": 0.9, "inlier": True}]
    outline = [[0, 0], [8, 0], [8, 8], [0, 8]]
    reason = {"kind": "VerifiedMatches", "matches": 1, "inliers": 1, "geometry": "homography", "outline": outline}
    stage = {"stage": "explained", "final": True, "rerank": ["matching"], "weights": "", "images": 1, "seconds": 0.1}
    result = {**found, "explanation": {"matching": {**reason, "points": points}}}
    page.route("**/search/stream", lambda route: route.fulfill(json={**stage, "results": [result]}))
    page.set_input_files("#file", home / "photos" / FIRST)
    expect(page.locator("#grid .outline")).to_have_count(1)
    expect(page.locator("#grid .why")).to_have_css("opacity", "0")
    cards(page).first.hover()
    expect(page.locator("#grid .why")).to_have_css("opacity", "1")
    page.mouse.move(0, 0)
    page.keyboard.press("e")
    expect(page.locator("#grid .why")).to_have_css("opacity", "1")
    page.keyboard.press("v")
    expect(page.locator("#viewer .point")).to_have_count(2)
    assert_lines_end_in_points(page, 1)
    page.set_viewport_size({"width": 390, "height": 844})  # the photos are now one below the other
    assert_lines_end_in_points(page, 1)


def test_a_photo_that_was_deleted_meanwhile(browser: Browser, tmp_path: Path, tiny_models: None) -> None:
    with serving(make_served(tmp_path)) as address:
        for page in opened(browser, address):
            (tmp_path / "photos" / "tower" / "tower 1.png").unlink()
            upload(page, tmp_path)
            expect(page.locator("#grid .gone")).to_have_count(1)
            expect(page.locator("#grid .gone")).to_have_text("The photo is gone")


def test_a_token_is_asked_for(browser: Browser, home: Path, address: str) -> None:
    with serving(served_config(tiny_config(home)), "a token of some length") as where:
        context = browser.new_context()
        page = context.new_page()
        page.goto(where)
        page.fill("#token-text", "wrong")
        page.press("#token-text", "Enter")
        expect(page.locator("#token-problem")).to_contain_text("not the token")
        page.fill("#token-text", "a token of some length")
        page.press("#token-text", "Enter")
        expect(page.locator("#start-grid img").first).to_be_visible()
        context.close()


def test_a_text_that_is_no_photo_is_explained(page: Page, tmp_path: Path) -> None:
    paint(tmp_path / "a.png", 1)
    (tmp_path / "note.png").write_text("no photo")
    page.set_input_files("#file", tmp_path / "note.png")
    expect(page.locator("#problem")).to_contain_text("not a picture in a known format")
