"""Shards of an index in a bucket, on machines that share nothing else: the index of one process, to the last bit."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import pytest
from bucket import Bucket, bucket, object_client, object_server
from bucket_machines import in_bucket, machine, photos
from stores_helpers import content
from tiny import TinyDescriber, paint, tiny, tiny_config

from pipeline.config import Config
from pipeline.errors import LockedError, RelookError, UsageError
from pipeline.files import ObjectPath
from pipeline.stages.extract import extract, extract_shard, join
from pipeline.stages.info import info
from pipeline.stages.reindex import reindex
from pipeline.stages.search import search
from pipeline.stores import Index
from pipeline.stores.index.published import PublishedIndex
from pipeline.stores.index.published_shards import PublishedShards
from pipeline.workflow.bucket_index import cache_folder, local_copy
from pipeline.workflow.indexing.sharding import exchange
from pipeline.workflow.stop import Stop

__all__ = ["bucket", "object_client", "object_server", "tiny"]


@pytest.fixture
def home(tiny: None, tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twenty photos, and one that is none; blocks of three photos."""
    monkeypatch.setattr("pipeline.workflow.model_loading._BLOCK", 3)
    monkeypatch.setattr("pipeline.workflow.model_loading._BLOCK_BATCHES", 1)
    for number in range(20):
        paint(tmp_path / "photos" / "ab"[number % 2] / f"{number:02d}.png", number)
    (tmp_path / "photos" / "a" / "bad.png").write_bytes(b"no photo")
    machine(monkeypatch, tmp_path, "first")
    return tmp_path


def seen(config: Config) -> Any:
    """What a search sees."""
    index = Index(local_copy(config).index)
    assert index.verify() == []
    return content(index), list(index.records), index.failure_rows(), index.card


def whole(home: Path) -> Any:
    """What one process makes of the photos, on a disk."""
    config = tiny_config(home)
    extract(config, photos(config))
    index = Index(config.index)
    return content(index), list(index.records), index.failure_rows(), index.card


def each_on_its_machine(monkeypatch: pytest.MonkeyPatch, home: Path, config: Config, count: int) -> None:
    for number in range(1, count + 1):
        machine(monkeypatch, home, f"of shard {number}")
        assert extract_shard(config, f"{number}/{count}").outcome == "done"


def counted(monkeypatch: pytest.MonkeyPatch, name: str) -> list[str]:
    """The objects that are moved by a method of `ObjectPath` from here on."""
    moved: list[str] = []
    move = getattr(ObjectPath, name)
    monkeypatch.setattr(ObjectPath, name, lambda self, file: moved.append(str(self)) or move(self, file))
    return moved


def another_day(photos: Path) -> None:
    """Photos come, change, move, go."""
    for number in range(7):
        paint(photos / "new" / f"{number}.png", 100 + number)
    paint(photos / "a" / "00.png", 200)
    (photos / "b" / "01.png").rename(photos / "a" / "01.png")
    (photos / "b" / "03.png").unlink()


def test_the_index_of_one_process_on_two_days(home: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    config = in_bucket(home, bucket.url)
    for shards in (3, 2):
        each_on_its_machine(monkeypatch, home, config, shards)
        machine(monkeypatch, home, "joining")
        with monkeypatch.context() as counting:
            downloads = counted(counting, "download")
            summary = join(config)
        assert not any("/locals/" in name for name in downloads)  # these go from the shards to the bucket alone
        assert sum("/globals/" in name for name in downloads) == (0 if shards == 3 else 1)  # of the part of the moved
        assert summary.index == f"{bucket.url}/my index"
        expected = whole(home)
        machine(monkeypatch, home, "searching")
        assert seen(config) == expected
        assert summary.images == len(expected[1])
        machine(monkeypatch, home, "alone")
        assert extract(config, photos(config)).equal == summary.images
        if shards == 3:
            another_day(home / "photos")
    with pytest.raises(RelookError, match=r"my index: there are no shards to join; begin with: .* --index s3://"):
        join(config)


def test_until_the_join_searches_see_what_was(home: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    config = in_bucket(home, bucket.url)
    assert extract_shard(config, "1/3").described == 6
    assert info(config).images == 0
    shards = info(config).shards
    assert shards is not None
    assert (shards["done"], [one["shard"] for one in shards["missing"]]) == (1, ["2/3", "3/3"])
    machine(monkeypatch, home, "joining")
    with pytest.raises(RelookError) as caught:
        join(config)
    line = str(caught.value)
    assert line.startswith(f"{bucket.url}/my index/shards: shards that are not done: 2/3 (not begun), 3/3 (not begun)")
    assert f"--index {bucket.url}/my index --shard 2/3" in line
    assert str(cache_folder()) not in line
    each_on_its_machine(monkeypatch, home, config, 3)
    join(config)
    assert seen(config) == whole(home)
    assert info(config).shards is None


def test_a_shard_that_is_done_describes_nothing_on_any_machine(
    home: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = in_bucket(home, bucket.url)
    extract_shard(config, "1/2")
    assert not list(cache_folder().glob("*/shards/shards/*/1-of-2"))  # the bucket has it
    monkeypatch.setattr(TinyDescriber, "describe", lambda *_: pytest.fail("described again"))
    for name in ("first", "second"):
        machine(monkeypatch, home, name)
        assert extract_shard(config, "1/2").described == 0


def test_a_shard_that_was_stopped_goes_on_on_another_machine(
    home: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, stop, describe = in_bucket(home, bucket.url), Stop(), TinyDescriber.describe

    def stopping(self: TinyDescriber, batch: Any) -> Any:
        stop.request("SIGTERM")
        return describe(self, batch)

    with monkeypatch.context() as stopped:
        stopped.setattr(TinyDescriber, "describe", stopping)
        first = extract_shard(config, "1/1", stop=stop)
    assert first.outcome == "stopped"
    assert 0 < first.described < 20
    machine(monkeypatch, home, "second")
    second = extract_shard(config, "1/1")
    assert second.outcome == "done"
    # Blocks are described as a whole: of one that was cut off some photos are described a second time.
    assert 20 - first.described <= second.described < 20
    machine(monkeypatch, home, "joining")
    join(config)
    assert seen(config) == whole(home)
    monkeypatch.setattr("pipeline.workflow.model_loading.open_describer", lambda *_: TinyDescriber(320))
    found = [search(config, [str(home / "photos" / "b")], shard=f"{number}/2").hits for number in (1, 2)]
    assert [len(hits) for hits in found] == [5, 5]


def test_mix_ups_are_named_after_the_bucket(home: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    config = in_bucket(home, bucket.url)
    extract_shard(config, "1/2")
    machine(monkeypatch, home, "second")
    other = tiny_config(home, size=64).model_copy(update={"index": config.index})
    for action, words in (
        (lambda: extract_shard(config, "1/3"), "divided into 2 shards, not 3"),
        (lambda: extract_shard(config, "2/2", str(home / "photos" / "a")), "of the photos"),
        (lambda: extract_shard(other, "2/2"), "the shards were begun with 320"),
    ):
        with pytest.raises(UsageError, match=words) as caught:
            action()
        assert str(caught.value).startswith(f"{bucket.url}/my index/shards")
    paint(home / "photos" / "new.png", 50)
    reindex(config, photos(config))
    for late in (lambda: extract_shard(config, "2/2"), lambda: join(config)):
        with pytest.raises(RelookError, match=r"the index has changed since|not done"):
            late()


def test_machines_that_plan_at_once(
    home: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One is quicker, before the other has published the index; then between its index and its plan."""
    config, publish = in_bucket(home, bucket.url), PublishedShards.publish
    commit, begun = PublishedIndex.publish, []

    def quicker(of: Any, what: str, shard: str) -> Any:
        def late(self: Any, *arguments: Any) -> None:
            if what not in begun:
                begun.append(what)
                machine(monkeypatch, home, what)
                assert extract_shard(config, shard).outcome == "done"
                machine(monkeypatch, home, "first")
            of(self, *arguments)

        return late

    monkeypatch.setattr(PublishedIndex, "publish", quicker(commit, "index", "1/3"))
    with caplog.at_level(logging.INFO):
        assert extract_shard(config, "2/3").outcome == "done"
    assert "another machine has divided the photos meanwhile" in caplog.text
    extract_shard(config, "3/3")
    join(config)
    assert seen(config) == whole(home)
    another_day(home / "photos")
    monkeypatch.setattr(PublishedShards, "publish", quicker(publish, "plan", "1/2"))
    assert extract_shard(config, "2/2").outcome == "done"
    join(config)
    assert seen(config) == whole(home)


def test_one_shard_on_two_machines(home: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is later ends with exit code 75; running it again finds the shard done."""
    config, begun = in_bucket(home, bucket.url), []
    extract_shard(config, "1/2")
    publish = exchange._publish

    def late(*arguments: Any) -> None:
        if not begun:
            begun.append(True)
            machine(monkeypatch, home, "second")
            extract_shard(config, "2/2")
            machine(monkeypatch, home, "first")
        publish(*arguments)

    monkeypatch.setattr(exchange, "_publish", late)
    with pytest.raises(LockedError, match=r"2-of-2/index.json: another run has written it meanwhile"):
        extract_shard(config, "2/2")
    assert extract_shard(config, "2/2").described == 0
    join(config)
    assert seen(config) == whole(home)


def test_of_two_joins_one_is_refused(home: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    config, begun = in_bucket(home, bucket.url), []
    each_on_its_machine(monkeypatch, home, config, 2)
    publish = exchange._publish

    def late(*arguments: Any) -> None:
        if not begun:
            begun.append(True)
            machine(monkeypatch, home, "second")
            time.sleep(1.1)  # joins of the same second write the same manifest, and then neither is late
            join(config)
            machine(monkeypatch, home, "first")
        publish(*arguments)

    monkeypatch.setattr(exchange, "_publish", late)
    with pytest.raises(LockedError, match="another run has written it meanwhile"):
        join(config)
    with pytest.raises(RelookError, match="there are no shards to join"):
        join(config)
    assert seen(config) == whole(home)


def test_no_credentials_no_bucket_and_a_server_that_is_gone(
    home: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = in_bucket(home, bucket.url)
    extract_shard(config, "1/2")
    nowhere = config.model_copy(update={"index": Path("s3://no-such-bucket-here/index")})
    for verb in (lambda one: extract_shard(one, "2/2"), join):
        with pytest.raises(RelookError, match="there is no bucket 'no-such-bucket-here'"):
            verb(nowhere)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    for verb in (lambda one: extract_shard(one, "2/2"), join):
        with pytest.raises(RelookError, match=r"the store cannot be used at 127.0.0.1:9; check the address") as caught:
            verb(config)
        assert "\n" not in str(caught.value)
