"""An index carries its describer: searches load neither torch nor timm, with the results that the network gives."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from photos import ROOT, make_photo
from stores_helpers import FITTED, make_card

import relook
from pipeline.stores import Index, IndexWriter
from pipeline.stores.index.carried_describer import describer_files

SETTINGS: dict[str, Any] = {
    "image": {"size": 96},
    "globals": {"scales": [1.0]},
    "locals": {"count": 9, "dimension": 4, "scales": [1.0]},
}
# Runs a search where no network library can be imported, and says which ones were loaded all the same. pandas can be:
# pyarrow imports it where it is there, for half a second, and does without it where it is not.
WITHOUT = """
import sys

class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "timm", "torchvision", "kornia", "onnx"):
            raise ImportError(f"{name} is not here")

sys.meta_path.insert(0, Refused())
from pipeline.cli import main
try:
    main()
finally:
    print(sorted({"torch", "timm", "torchvision", "pandas"} & sys.modules.keys()), file=sys.stderr)
"""


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("carried")
    for number in range(7):
        make_photo(folder / "photos" / f"{number}.png", seed=number)
    relook.extract(folder / "photos", index=folder / "index", describe=SETTINGS, device="cpu")
    return folder / "index"


@pytest.fixture
def copied(index: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(index, tmp_path / "index"))


def search_without_torch(index: Path, *arguments: object) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, "search", *map(str, arguments), "--index", str(index), "--json"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "[]"
    results: list[dict[str, Any]] = json.loads(done.stdout)["queries"][0]["results"]
    return results


def test_a_search_needs_no_torch_and_finds_what_the_network_finds(index: Path) -> None:
    photo = index.parent / "photos" / "3.png"
    found = search_without_torch(index, photo, "--rerank", "superglobal", "--device", "cpu")
    with relook.open(index, rerank="superglobal", device="cpu", describe={"runtime": "torch"}) as gallery:
        wanted = gallery.search(photo)
    assert [one["id"] for one in found] == [hit.id for hit in wanted]
    assert [one["score"] for one in found] == pytest.approx([hit.score for hit in wanted], abs=1e-5)
    assert found[0]["id"] == "3.png"


def test_an_index_without_its_describer_is_searched_with_the_network(copied: Path) -> None:
    for file in (copied / "model").glob("describer-*"):
        file.unlink()
    assert Index(copied).carried_describer() is None
    assert Index(copied).verify() == []
    with relook.open(copied, rerank="none", device="cpu") as gallery:
        photo = gallery.index.image_file(gallery.index.find_records(["2.png"])[0])
        assert gallery.search(photo)[0].id == "2.png"


def test_a_damaged_one_is_said_and_not_used(copied: Path, caplog: pytest.LogCaptureFixture) -> None:
    index = Index(copied)
    graph = copied / describer_files(index.manifest.fingerprint)[0]
    graph.write_bytes(graph.read_bytes()[:-1] + b"!")
    assert [line for line in index.verify() if "damaged" in line] == index.verify()
    with relook.open(copied, rerank="none", device="cpu") as gallery:
        found = gallery.search(index.image_file(index.find_records(["2.png"])[0]))
    assert found[0].id == "2.png"
    assert any("loaded from its weights instead" in message for message in caplog.messages)


def test_the_next_run_that_describes_adds_it(copied: Path, tmp_path: Path) -> None:
    for file in (copied / "model").glob("describer-*"):
        file.unlink()
    photos = shutil.copytree(Index(copied).manifest.images_root, tmp_path / "photos")
    relook.extract(photos, index=copied, describe=SETTINGS, device="cpu")
    assert Index(copied).carried_describer() is None  # nothing was described, so no network was loaded
    make_photo(tmp_path / "photos" / "new.png", seed=9)
    before = Index(copied).card.to_json()
    relook.extract(photos, index=copied, device="cpu")
    assert Index(copied).carried_describer() is not None
    assert Index(copied).card.to_json() == before


def test_the_manifest_is_as_without_it(index: Path) -> None:
    """So that a relook from before reads the index."""
    assert "describer" not in (index / "index.json").read_text()


def test_the_describer_of_a_model_that_is_gone_is_collected(tmp_path: Path) -> None:
    with IndexWriter(tmp_path) as writer:
        writer.begin(make_card(), FITTED, ROOT, "parquet")
        writer.carry_describer(b"graph", {"patch": 1})
    own = Index(tmp_path).manifest.fingerprint
    for name in describer_files("0" * 16):
        (tmp_path / name).write_bytes(b"old")
    (tmp_path / "model" / "notes.txt").write_text("stays")
    with IndexWriter(tmp_path):
        pass
    names = {Path(name).name for name in describer_files(own)}
    assert {file.name for file in (tmp_path / "model").iterdir()} >= names | {"notes.txt"}
    assert not (tmp_path / describer_files("0" * 16)[0]).exists()
    stored = Index(tmp_path).carried_describer()
    assert stored is not None
    assert stored.graph.read_bytes() == b"graph"


def test_a_kill_leaves_a_whole_one_or_none(tmp_path: Path) -> None:
    """Killed at every step of writing it; the index is whole at each, and the next run can write it again."""
    with IndexWriter(tmp_path) as writer:
        writer.begin(make_card(), FITTED, ROOT, "parquet")
    for number in range(1, 20):
        child = os.fork()
        if child == 0:
            import pipeline.faults

            pipeline.faults._asked = f"any:{number}"
            with IndexWriter(tmp_path) as writer:
                writer.carry_describer(bytes([number]) * 100, {"number": number})
            os._exit(0)
        _, status = os.waitpid(child, 0)
        index = Index(tmp_path)
        try:
            stored = index.carried_describer()
        except relook.RelookError:  # the graph is another one than that of the JSON file: said, and made again
            stored = None
        assert stored is None or stored.graph.read_bytes() == bytes([stored.spec["number"]]) * 100
        if not os.WIFSIGNALED(status):
            assert os.waitstatus_to_exitcode(status) == 0
            assert index.verify() == []
            return
        assert os.WTERMSIG(status) == signal.SIGKILL
    raise AssertionError("it never came to its end")
