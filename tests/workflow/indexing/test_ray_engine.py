"""`extract --engine ray` on a cluster of this machine: the index of a plain run, also when a worker is killed."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest
from bucket import Bucket, bucket, object_client, object_server
from cli_helpers import refused
from stores_helpers import content
from tiny import paint, tiny, tiny_config

from pipeline.config import Config
from pipeline.errors import RelookError, UsageError
from pipeline.stages.extract import extract, extract_shard
from pipeline.stages.info import info
from pipeline.stores import Index
from pipeline.stores.index.shards import Shards
from pipeline.workflow.bucket_index import local_copy, shown_index
from pipeline.workflow.indexing.sharding.ray_engine import _pools

__all__ = ["bucket", "object_client", "object_server", "tiny"]

with_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="pip install 'relook[ray]'")


@pytest.fixture
def home(tiny: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Photos for three shards, and stages for the tiny describer; the processes of Ray see this environment."""
    for number in range(270):
        paint(tmp_path / "photos" / "ab"[number % 2] / f"{number:03d}.png", number)
    (tmp_path / "photos" / "a" / "bad.png").write_bytes(b"no photo")
    import ray_stages

    for name in ("Reader", "Worker"):
        stage = getattr(ray_stages, f"Tiny{name}")
        monkeypatch.setattr(f"pipeline.workflow.indexing.sharding.ray_engine.{name}", stage)
    paths = [Path(__file__).resolve().parents[2] / "support", Path(__file__).resolve().parents[3]]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([*map(str, paths), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("RAY_NOTES", str(tmp_path / "notes"))
    return tmp_path


def with_a_worker_killed(home: Path, config: Config) -> None:
    """Extract on a cluster of this machine; a worker is killed on the way."""
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        result = extract(config, str(home / "photos"), engine="ray")
    finally:
        ray.shutdown()
    assert (result.images, result.added, result.failed) == (270, 270, 1)
    assert result.index == shown_index(config)
    assert (home / "notes" / "killed").exists()
    assert len(list((home / "notes" / "pids").iterdir())) == 2  # the one that was killed, and the one in its place


def assert_same(one: Index, other: Index) -> None:
    """To the last bit, in the same order, and whole."""
    assert content(one) == content(other)
    assert list(one.records) == list(other.records)
    assert one.failure_rows() == other.failure_rows()
    assert other.verify() == []


@with_ray
def test_the_same_index_though_a_worker_is_killed(home: Path) -> None:
    whole = tiny_config(home)
    extract(whole, str(home / "photos"))
    config = whole.model_copy(update={"index": home / "ray" / "index"})
    with_a_worker_killed(home, config)
    assert_same(Index(whole.index), Index(config.index))
    assert not (config.index / "shards").exists()


@with_ray
@pytest.mark.slow
def test_the_same_index_in_a_bucket(home: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "disk"))
    whole = tiny_config(home)
    extract(whole, str(home / "photos"))
    config = whole.model_copy(update={"index": Path(f"{bucket.url}/index")})
    with_a_worker_killed(home, config)
    assert_same(Index(whole.index), Index(local_copy(config).index))
    assert info(config).shards is None


def test_a_collection_that_shard_divides_is_left_to_it(tiny: None, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    for number in range(4):
        paint(tmp_path / "photos" / f"{number}.png", number)
    config = tiny_config(tmp_path)
    extract_shard(config, "1/3", str(tmp_path / "photos"))
    with pytest.raises(UsageError, match="divided into 3 shards by --shard"):
        extract(config, str(tmp_path / "photos"), engine="ray")
    assert Shards(config.index).plan() is not None


def test_without_ray(tiny: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    paint(tmp_path / "photos" / "0.png", 0)
    with pytest.raises(UsageError, match=r"pip install 'relook\[ray\]'"):
        extract(tiny_config(tmp_path), str(tmp_path / "photos"), engine="ray")


@pytest.mark.parametrize("words", [["--shard", "1/2"], ["--join"]])
def test_it_divides_by_itself(words: list[str]) -> None:
    assert "leave --shard and --join" in refused(2, "extract", "photos", "--engine", "ray", *words)


@pytest.mark.parametrize(
    ("resources", "device", "pools"),
    [
        ({"CPU": 1}, "cpu", (1, 1, 0.45, 0.0)),
        ({"CPU": 2}, "cpu", (1, 1, 0.9, 0.0)),
        ({"CPU": 64}, "cpu", (26, 38, 0.9, 0.0)),
        ({"CPU": 64, "GPU": 8}, "cuda", (56, 8, 0.9, 1.0)),
        ({"CPU": 4, "GPU": 8}, "cuda", (1, 8, 0.4, 1.0)),
    ],
)
def test_who_reads_and_who_describes(
    resources: dict[str, float], device: str, pools: tuple[int, int, float, float]
) -> None:
    assert _pools(resources, device) == pytest.approx(pools)


def test_a_cluster_without_gpus() -> None:
    with pytest.raises(RelookError, match="the Ray cluster has no GPU"):
        _pools({"CPU": 4}, "cuda")
