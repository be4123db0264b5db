"""The service over the other stores: it finds what the table finds, and takes a new generation under searches."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pinecone_helpers import QUICK
from pinecone_helpers import serving as pinecone
from served import client, make_served, serving
from tiny import paint

from pipeline.config import Config
from pipeline.config.loading import with_values
from pipeline.stages.reindex import reindex

FIRST = "tower/tower 0.png"


@pytest.fixture
def service() -> Iterator[Any]:
    """A Pinecone server that the SDK finds."""
    with pinecone() as server:
        yield server


def stored_in(config: Config, kind: str) -> Config:
    """The configuration with another store."""
    options = {f"store.pinecone.{key}": value for key, value in QUICK.items()}
    return with_values(config, {"store.kind": kind, **options}, "tests")


def found(http: httpx.Client, **fields: str) -> dict[str, Any]:
    """The document of a search."""
    response = http.post("/search", data={"id": FIRST, "rerank": "none", "top_k": "40", **fields})
    assert response.status_code == 200, response.text
    document: dict[str, Any] = response.json()
    return document


def scores(document: dict[str, Any]) -> dict[str, float]:
    """Of each result."""
    return {row["id"]: row["score"] for row in document["results"]}


@pytest.mark.parametrize("kind", ["ann", "pinecone"])
def test_results_are_those_of_the_table(kind: str, tmp_path: Path, tiny_models: None, service: Any) -> None:
    config = make_served(tmp_path)
    with serving(config) as where, client(where) as http:
        table = [found(http), found(http, label="bridge")]
    reindex(stored_in(config, kind))
    with serving(stored_in(config, kind)) as where, client(where) as http:
        for expected, document in zip(table, [found(http), found(http, label="bridge")], strict=True):
            assert scores(document) == pytest.approx(scores(expected), abs=1e-5)
        assert {row["label"] for row in document["results"]} == {"bridge"}


@pytest.mark.parametrize("kind", ["ann", "pinecone"])
def test_new_generations_are_taken_without_a_failure(
    kind: str, tmp_path: Path, tiny_models: None, service: Any
) -> None:
    config = stored_in(make_served(tmp_path), kind)
    reindex(config)
    failures: list[str] = []
    done = 0
    stop = threading.Event()
    with serving(config) as where, client(where) as http:

        def load() -> None:
            nonlocal done
            with client(where) as own:
                while not stop.is_set():
                    fields = {"id": FIRST, "rerank": "superglobal", "explain": "true"}
                    response = own.post("/search", data=fields)
                    done += 1
                    if response.status_code != 200:
                        failures.append(response.text)

        def answered_again(threads: list[threading.Thread]) -> None:
            """Every generation meets searches, however slow the machine is."""
            before = done
            while done < before + len(threads) and all(thread.is_alive() for thread in threads):
                time.sleep(0.01)

        threads = [threading.Thread(target=load) for _ in range(2)]
        for thread in threads:
            thread.start()
        for number in range(5):
            paint(tmp_path / "photos" / "new" / f"{number}.png", 100 + number)
            (tmp_path / "photos" / "bridge" / f"bridge {number}.png").unlink(missing_ok=True)
            reindex(config)
            answered_again(threads)
        there = {f"new/{number}.png" for number in range(5)}
        for _ in range(200):
            names = scores(found(http)).keys()
            if there <= names and not any(name.startswith("bridge/") for name in names):
                break
            time.sleep(0.05)
        else:
            raise AssertionError(f"found {sorted(names)}")
        stop.set()
        for thread in threads:
            thread.join()
    assert not failures
    assert done >= 10
