"""`import relook`: what it exports, what it loads, and that a wheel has it."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from cli_helpers import draw
from photos import ROOT

import relook
from pipeline.describe import load_describer
from pipeline.rerank import load_reranker

HEAVY = ("torch", "pandas", "timm", "numpy", "pyarrow", "cv2", "PIL", "pinecone", "pydantic")


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_it_loads_nothing_heavy() -> None:
    assert run(f"import sys, relook; print([name for name in {HEAVY} if name in sys.modules])") == "[]"


def test_opening_a_gallery_class_loads_no_torch_and_no_pandas() -> None:
    heavy = ("torch", "pandas", "timm", "pinecone", "cv2")
    code = f"import sys, relook; relook.Gallery, relook.Hits; print([n for n in {heavy} if n in sys.modules])"
    assert run(code) == "[]"


def test_every_exported_name_is_there_and_documented() -> None:
    for name in relook.__all__:
        assert getattr(relook, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = relook.nothing


def test_names_that_can_be_loaded() -> None:
    assert {"efficientnet_lite0", "cvnet_r50", "delg_r101", "sop_r50"} <= set(relook.list_describers())
    assert {"superglobal", "matching", "rrt", "ames", "cvnet", "rrt_sop"} <= set(relook.list_rerankers())
    assert {"average_qe", "alpha_qe", "dba", "k_reciprocal", "diffusion"} <= set(relook.list_rerankers())
    made = [load("efficientnet_lite0", image={"size": 96}) for load in (relook.load_describer, load_describer)]
    assert made[0].network.backbone.weights == made[1].network.backbone.weights
    assert made[0].input.reads == made[1].input.reads
    assert type(relook.load_reranker("superglobal", k=3)) is type(load_reranker("superglobal", k=3))


def test_settings_lie_over_a_file(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("search: {top_k: 7, skip_itself: true}\nrerank: {superglobal: {k: 3}}\n")
    config = relook._config(
        tmp_path / "mine.yaml",
        {"index": "i", "store": "ann", "rerank": "a, b", "device": None, "search": {"top_k": 9}},
    )
    assert (config.search.top_k, config.search.skip_itself) == (9, True)
    assert (config.rerank.chain, config.rerank.superglobal.k, config.store.kind) == (("a", "b"), 3, "ann")
    assert relook._config(None, {"rerank": "none"}).rerank.chain == ()
    assert relook._config(None, {"rerank": {"superglobal": {"k": 4}}}).rerank.superglobal.k == 4
    with pytest.raises(relook.UsageError, match=r"relook: unknown key search\.topk; did you mean search\.top_k"):
        relook._config(None, {"search": {"topk": 9}})


@pytest.mark.slow
def test_the_wheel_has_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert {"relook.py", "pipeline/samples/manifest.csv"} <= set(zipfile.ZipFile(wheel).namelist())


def test_paths_of_calls_are_expanded_as_those_of_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PHOTOS", str(tmp_path / "photos"))
    for number in range(3):
        draw(tmp_path / "photos" / f"{number}.jpg", number, 0)
    assert relook.extract("$PHOTOS", "~/ix", describe={"image": {"size": 96}}).images == 3
    with relook.open("~/ix", rerank="none") as gallery:
        assert gallery.search("~/photos/1.jpg").ids[0] == "1.jpg"
        assert gallery.search(Path("$PHOTOS/2.jpg")).ids[0] == "2.jpg"
    with pytest.raises(relook.UsageError, match="the variable 'GONE' is not set"):
        relook.extract("$GONE/photos", "~/ix")
