"""Pinecone as a user of the command line meets it: filled, killed, filled again, searched, and learnt from."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_helpers import ELSEWHERE, QUICK, ROOT, document, index, photos, relook
from doc_commands import commands
from pinecone_helpers import assert_equal, filled, serving
from pinecone_server import Fault, PineconeServer

from pipeline.cli import app
from pipeline.errors import RelookError, UsageError
from pipeline.stores import Index
from pipeline.stores.pinecone.store import PineconeStore

__all__ = ["index", "photos"]  # fixtures

IDS = [f"photo {number:04d}.jpg" for number in range(1500)]
STORE = ["--store", "pinecone"]


def verb(*arguments: object) -> dict:
    """A verb's JSON document, without a process of its own. Raises what the verb does."""
    with io.StringIO() as text, contextlib.redirect_stdout(text):
        assert not app([*map(str, arguments), "--json"], standalone_mode=False)
        return json.loads(text.getvalue())


@pytest.fixture
def server() -> Iterator[PineconeServer]:
    with serving() as server:
        yield server


def test_killed_in_the_middle_it_sends_only_the_rest(server: PineconeServer, tmp_path: Path) -> None:
    made = filled(tmp_path / "index", IDS, part=100)
    served = server.create("relook", 8)
    space = made.card.fingerprint
    server.faults.append(Fault("upsert", times=10**9, slow=0.1))
    command = [sys.executable, str(ROOT / "cli.py"), "upload", "--index", str(made.directory), *STORE]
    process = subprocess.Popen(command, cwd=ELSEWHERE, env=os.environ, start_new_session=True)
    while not server.received[space, IDS[420]] and process.poll() is None:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    time.sleep(0.3)  # the service carries out what it had received
    there = len(served.view(space, "fetch").records)
    assert 400 < there < 1500
    server.faults.clear()
    result = verb("upload", "--index", made.directory, *STORE)
    assert (result["added"], result["changed"], result["removed"], result["equal"]) == (1500 - there, 0, 0, there)
    assert_equal(server, made)
    assert set(server.received.values()) == {1}, "nothing was sent twice"


def test_a_search_asks_the_service_and_finds_what_the_table_finds(
    server: PineconeServer, index: Path, photos: Path
) -> None:
    query = sorted(photos.parent.glob("thing 1/*.jpg"))[0]
    ask = ["search", query, "--index", index, "--top-k", "12"]
    with pytest.raises(RelookError, match="there is no Pinecone index relook; run: relook upload"):
        verb(*ask, *STORE)
    planned = verb("upload", "--dry-run", "--index", index, *STORE)
    assert planned == {**planned, "added": 40, "changed": 0, "removed": 0}
    uploaded = verb("upload", "--index", index, *STORE)
    assert {key: uploaded[key] for key in ("store", "added", "changed", "removed", "equal")} == {
        **{"store": "pinecone", "added": 40, "changed": 0, "removed": 0, "equal": 0}
    }
    assert uploaded["current"] == uploaded["model"] == Index(index).card.fingerprint
    assert_equal(server, Index(index))
    server.calls.clear()
    theirs, ours = document(*ask, *STORE), verb(*ask)
    for one, other in zip(theirs["queries"][0]["results"], ours["queries"][0]["results"], strict=True):
        assert one["id"] == other["id"]
        assert one["score"] == pytest.approx(other["score"], abs=1e-5)
    assert server.calls["POST /documents/search"] == 1
    assert not server.calls["POST /documents/fetch"], "the reranker reads vectors from the index"


def test_the_key_is_never_shown(server: PineconeServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    made = filled(tmp_path / "index", IDS[:20])
    key, server.key = server.key, "another"
    failed = relook("upload", "-vv", "--index", made.directory, *STORE, PINECONE_DEBUG_CURL="1")
    assert failed.returncode == 1
    assert "Traceback" in failed.stderr
    assert "the key in PINECONE_API_KEY is refused ([401 E401] Invalid API Key ***)" in failed.stderr.replace("\n", " ")
    for text in (failed.stdout, failed.stderr):
        assert key not in text
        assert key[-6:] not in text
    server.key = key
    verb("upload", "-vv", "--index", made.directory, *STORE)
    said = capfd.readouterr()
    assert key[-6:] not in said.out + said.err
    files = [path for path in made.directory.rglob("*") if path.is_file()]
    assert len(files) > 3
    assert not any(key.encode() in path.read_bytes() for path in files)
    with pytest.raises(UsageError) as caught:
        verb("upload", "--index", made.directory, *STORE, "--set", f"store.pinecone.api_key={key}")
    assert key not in str(caught.value)


def test_the_commands_of_the_page_run(
    server: PineconeServer, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(photos.parent, tmp_path / "photos")
    (tmp_path / "photos" / "manifest.csv").rename(tmp_path / "photos" / "labels.csv")
    shutil.copy(tmp_path / "photos" / "thing 1" / "view_0.jpg", tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    said = []
    for line in commands("docs/pinecone.md"):
        if line.startswith("pip install"):
            continue
        words = shlex.split(line)[1:]
        if "--bulk" in words:
            namespace = said[-1]["place"].rpartition("/")[2]
            server.buckets = {"gs://bucket": tmp_path / "bucket"}
            shutil.copytree(tmp_path / "relook-index" / "globals", tmp_path / "bucket" / "relook" / namespace)
        quicker = {"extract": QUICK, "train-rerank": ["--set", "train_rerank.epochs=1"]}.get(words[0], [])
        server.calls.clear()
        said.append(verb(*words, *quicker))
        assert words[0] in ("extract", "upload") or server.calls["POST /documents/search"] > 0
    first, better = Index(tmp_path / "relook-index"), Index(tmp_path / "better")
    assert set(server.content()) == {"models", better.card.fingerprint}
    assert said[-3]["pruned"] == {first.card.fingerprint: 40}
    assert_equal(server, better)
    assert_equal(server, first, name="large")


def test_evaluate_writes_to_the_service_only_with_fill(server: PineconeServer, index: Path, photos: Path) -> None:
    words = ["evaluate", "--index", index, "--images", photos, "--rerank", "none", *STORE]
    with pytest.raises(RelookError, match="run: relook upload"):
        verb(*words)
    assert not server.received
    here = verb(*words[:-2])
    assert verb(*words, "--fill")["global"] == here["global"]
    sent = dict(server.received)
    assert len(sent) == 41  # and the model card
    assert verb(*words)["global"] == here["global"]
    assert dict(server.received) == sent


def test_evaluate_ranks_more_images_than_a_query_returns(
    server: PineconeServer, index: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    words = ["evaluate", "--index", index, "--rerank", "none"]
    verb("upload", "--index", index, *STORE)
    monkeypatch.setattr(PineconeStore, "max_results", 39)
    assert verb(*words, *STORE)["global"] == verb(*words)["global"]
    assert "returns at most 39 results per query, this protocol ranks 40 images" in caplog.text
