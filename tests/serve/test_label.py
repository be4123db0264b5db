"""`relook label`: questions and answers over HTTP and in a real browser, a kill, two servers, labels and pairs."""

from __future__ import annotations

import csv
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from browser import browser, serious
from cli_helpers import ROOT, document, refused
from served import client, labelling, served_config
from tiny import tiny_config

from pipeline.catalog import load_catalog
from pipeline.config import Config
from pipeline.config.loading import with_values
from pipeline.errors import LockedError, UsageError
from pipeline.stages.extract import extract
from pipeline.stages.label import label
from pipeline.train.mining.answers import read_answers

__all__ = ["browser"]  # a fixture
THINGS = ("lighthouse_a", "package_b")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_models: None) -> Path:
    """Three photos of each of two things, and an index of them without labels."""
    home = tmp_path_factory.mktemp("label")
    for thing in THINGS:
        for file in sorted((ROOT / "data" / "samples" / "images" / thing).glob("*.jpg"))[:3]:
            (home / "photos").mkdir(exist_ok=True)
            shutil.copy(file, home / "photos" / file.name)
    extract(with_values(tiny_config(home), {"catalog.labels": "none"}, "tests"))
    return home


@pytest.fixture
def config(folder: Path, tmp_path: Path) -> Config:
    """Of that index, with a file of answers of its own."""
    settings = {"adapt.answers": str(tmp_path / "answers.csv"), "adapt.out": str(tmp_path / "adapted.safetensors")}
    return with_values(served_config(tiny_config(folder)), {**settings, "adapt.duplicates": 1.0}, "tests")


@pytest.fixture
def http(config: Config) -> Iterator[httpx.Client]:
    """A client of a server of that index."""
    with labelling(config) as address, client(address) as made:
        yield made


def thing(name: str) -> str:
    return name.rsplit("_", 1)[0]


def post(http: httpx.Client, question: dict, answer: str) -> dict:
    given = {"first": question["first"]["id"], "second": question["second"]["id"], "answer": answer}
    done = http.post("/answers", json=given)
    assert done.status_code == 200, done.text
    return done.json()


def test_answers_until_none_is_left(http: httpx.Client, config: Config) -> None:
    found, asked = http.get("/question").json(), []
    assert found["answered"] == {"yes": 0, "no": 0, "unsure": 0, "undo": 0}
    assert found["question"]["support"] is None
    while question := found["question"]:
        pair = question["first"]["id"], question["second"]["id"]
        asked.append(pair)
        found = post(http, question, "yes" if thing(pair[0]) == thing(pair[1]) else "no")
        assert len(read_answers(config.adapt.answers)) == len(asked)
    # Two yes for each thing and one no between them say all: fifteen pairs follow from five.
    assert found["answered"]["yes"] == 4
    assert len(asked) <= 9
    assert len(set(asked)) == len(asked)


def test_undo_asks_again(http: httpx.Client, config: Config) -> None:
    first = http.get("/question").json()["question"]
    second = post(http, first, "unsure")
    assert second["question"]["first"]["id"], second["answered"]["undo"] == (first["first"]["id"], 1)
    back = http.post("/undo", json={}).json()
    assert back["question"]["second"]["id"] == first["second"]["id"]
    assert back["answered"] == {"yes": 0, "no": 0, "unsure": 0, "undo": 0}
    assert read_answers(config.adapt.answers) == {}
    assert len(config.adapt.answers.read_text().splitlines()) == 3  # nothing is removed from the file
    assert http.post("/undo", json={}).json()["answered"]["undo"] == 0


def test_photos_and_points(http: httpx.Client) -> None:
    question = http.get("/question").json()["question"]
    photo = http.get(f"/images/{question['first']['id']}", params={"size": 320})
    assert (photo.status_code, photo.headers["content-type"]) == (200, "image/jpeg")
    names = sorted(file for file in ("lighthouse_a_00.jpg", "lighthouse_a_01.jpg"))
    found = http.get("/points", params={"first": names[0], "second": names[1]}).json()
    assert found["kind"] == "VerifiedMatches"
    assert found["inliers"] == sum(point["inlier"] for point in found["points"])
    assert http.get("/points", params={"first": names[0], "second": "gone.jpg"}).status_code == 422
    assert http.get("/images/gone.jpg").status_code == 404
    assert http.get(f"/images/{names[0]}", params={"size": 7}).status_code == 422


def test_what_is_refused(http: httpx.Client, config: Config) -> None:
    question = http.get("/question").json()["question"]
    pair = {"first": question["first"]["id"], "second": question["second"]["id"]}
    for wrong in (
        {**pair, "answer": "maybe"},
        {**pair, "answer": ""},
        {"first": pair["first"], "second": "gone.jpg", "answer": "yes"},
        {"first": pair["first"], "second": pair["first"], "answer": "yes"},
        {"answer": "yes"},
    ):
        response = http.post("/answers", json=wrong)
        assert (response.status_code, list(response.json())) == (422, ["error"])
    given = {**pair, "answer": "yes"}
    assert http.post("/answers", json=given, headers={"Origin": "http://other.example"}).status_code == 403
    assert http.post("/answers", json=given, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert http.post("/answers", data=given, headers={"Content-Type": "text/plain"}).status_code == 422
    assert http.get("/question", headers={"Host": "other.example"}).status_code == 421
    assert not config.adapt.answers.exists()


def test_only_this_machine_and_one_server_at_a_time(config: Config) -> None:
    beyond = with_values(config, {"serve.host": "0.0.0.0", "serve.port": 0}, "tests")
    with pytest.raises(UsageError, match="label listens on this machine alone"):
        label(beyond, lambda address: None)
    words = started(config)
    with running(words) as (_, _address), pytest.raises(LockedError, match="another relook label writes to it"):
        label(with_values(config, {"serve.port": 0}, "tests"), lambda address: None)


def started(config: Config) -> list[str]:
    words = ["label", str(config.index), "--answers", str(config.adapt.answers), "--port", "0"]
    return [*words, "--set", "adapt.duplicates=1.0", "--out", str(config.adapt.out)]


@contextmanager
def running(words: list[str]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server as a process of its own, killed at the end of the block; gives the process and its address."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "cli.py"), *words]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr
            line = next(line for line in process.stderr if "label " in line)
            yield process, re.findall(r"http://[\d.:]+", line)[0]
        finally:
            process.kill()


def test_a_killed_server_loses_no_answer_and_goes_on(config: Config) -> None:
    with running(started(config)) as (process, address), client(address) as http:
        first = http.get("/question").json()["question"]
        second = post(http, first, "yes")["question"]
        post(http, second, "no")
        process.send_signal(signal.SIGKILL)
        process.wait(30)
    kept = read_answers(config.adapt.answers)
    assert sorted(kept.values()) == ["no", "yes"]
    with running(started(config)) as (process, address), client(address) as http:
        found = http.get("/question").json()
        assert found["answered"] == {"yes": 1, "no": 1, "unsure": 0, "undo": 0}
        asked = {found["question"][side]["id"] for side in ("first", "second")}
        assert asked not in [set(pair) for pair in kept]
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_pairs_are_filled_in_and_become_labels(folder: Path, tmp_path: Path) -> None:
    words = ["label", "--index", folder / "index", "--set", "adapt.duplicates=1.0"]
    done = document(*words, "--pairs", tmp_path / "pairs.csv", "--count", "12")
    assert done["count"] == 12
    with (tmp_path / "pairs.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    with (tmp_path / "pairs.csv").open("a") as stream:
        for row in rows:
            same = thing(row["first"]) == thing(row["second"])
            stream.write(f"{row['first']},{row['second']},{'yes' if same else 'no'}\n")
    found = document(*words, "--answers", tmp_path / "pairs.csv", "--labels", tmp_path / "labels.csv")
    assert (found["groups"], found["photos"], found["contradictions"]) == (2, 6, [])
    records = load_catalog(str(tmp_path / "labels.csv"), outside="allow").records
    assert {(thing(Path(record.path).name), record.label) for record in records} == {
        (name, f"group {number}") for number, name in enumerate(THINGS, start=1)
    }
    with (tmp_path / "pairs.csv").open("a") as stream:
        stream.write("lighthouse_a_00.jpg,lighthouse_a_01.jpg,perhaps\n")
    line = refused(1, *words, "--answers", tmp_path / "pairs.csv", "--labels", tmp_path / "labels.csv")
    assert f"line {len(rows) * 2 + 2}: answer = 'perhaps' must be yes, no, unsure or empty" in line
    assert "cannot read the answers" in refused(1, *words, "--answers", tmp_path / "no.csv", "--labels", "labels.csv")


def test_the_page_in_a_browser(browser: Any, config: Config) -> None:
    from playwright.sync_api import expect

    with labelling(config) as address:
        page = browser.new_page(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
        page.set_default_timeout(60_000)
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address)
        pair, line = page.locator("#pair"), page.locator("#collection-line")
        expect(pair.locator("img")).to_have_count(2)
        expect(page.locator("#undo")).to_be_disabled()
        expect(page.locator("#facts")).to_contain_text("matched points", timeout=60_000)
        shown = pair.get_attribute("data-pair")
        assert not serious(page)
        page.keyboard.press("y")
        expect(line).to_have_text("1 answered: 1 yes, 0 no, 0 unsure")
        expect(pair).not_to_have_attribute("data-pair", shown)
        assert read_answers(config.adapt.answers) == {tuple(sorted(shown.split("\n"))): "yes"}
        expect(page.locator("#undo")).to_be_enabled()
        page.keyboard.press("z")
        expect(pair).to_have_attribute("data-pair", shown)
        assert read_answers(config.adapt.answers) == {}
        for answered in range(1, 16):
            expect(page.locator("#answers button").first).to_be_enabled()
            names = pair.get_attribute("data-pair").split("\n")
            page.keyboard.press("y" if thing(names[0]) == thing(names[1]) else "n")
            expect(line).to_contain_text(f"{answered} answered")
            if not pair.locator("img").count():
                break
        expect(page.locator("#title")).to_contain_text("No pair is left")
        assert not errors
        page.close()
