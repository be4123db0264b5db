"""An index in a bucket: searched and written like one on a disk, and never half written or lost between two runs."""

from __future__ import annotations

import json
import logging
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bucket import Bucket, bucket, object_client, object_server
from bucket_machines import in_bucket, machine, photos
from tiny import TinyDescriber, paint, tiny, tiny_config

from pipeline.config import Config
from pipeline.errors import LockedError, RelookError
from pipeline.files import ObjectPath, object_path
from pipeline.files.conditional_put import ConditionalObject
from pipeline.stages.compact import compact
from pipeline.stages.extract import extract
from pipeline.stages.info import info
from pipeline.stages.reindex import reindex
from pipeline.stores import Index, IndexWriter
from pipeline.stores.index.published import PublishedIndex
from pipeline.workflow.bucket_index import cache_folder, local_copy
from pipeline.workflow.gallery import Gallery

__all__ = ["bucket", "object_client", "object_server", "tiny"]


@pytest.fixture
def home(tiny: None, tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ten photos; caches of their own."""
    for number in range(10):
        paint(tmp_path / "photos" / "ab"[number % 2] / f"{number}.png", number)
    monkeypatch.setattr("pipeline.workflow.model_loading.open_describer", lambda *_: TinyDescriber(320))
    machine(monkeypatch, tmp_path, "first")
    return tmp_path


def held(config: Config) -> Any:
    index = Index(local_copy(config).index)
    assert index.verify() == []
    records = sorted(map(repr, index.records.values()))
    vectors = {
        name: vector.tobytes()
        for part in index.globals_parts()
        for name, vector in zip(part.ids, part.vectors, strict=True)
    }
    ids = sorted(index.records)
    return records, vectors, [item.descriptors.tobytes() for item in index.locals(ids)]


def test_it_is_the_index_of_the_disk_and_is_searched_alike(home: Path, bucket: Bucket) -> None:
    config, local = in_bucket(home, bucket.url), tiny_config(home)
    summary = extract(config, photos(config))
    extract(local, photos(local))
    assert (summary.index, summary.images) == (f"{bucket.url}/my index", 10)
    assert held(config) == held(local)
    photo = home / "photos" / "a" / "4.png"
    with Gallery(config) as one, Gallery(local) as other:
        found, expected = (gallery.search(photo, rerank="none", skip_itself=False) for gallery in (one, other))
        assert [(hit.id, hit.score, hit.path) for hit in found.hits] == [
            (hit.id, hit.score, hit.path) for hit in expected.hits
        ]
    assert info(config).index == f"{bucket.url}/my index"
    assert json.loads(bucket.get("my index/index.json"))["earlier"] == []


def test_a_search_follows_what_another_machine_publishes(
    home: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = in_bucket(home, bucket.url)
    extract(config, photos(config))
    machine(monkeypatch, home, "searching")
    with Gallery(config) as gallery:
        assert gallery.newest() is gallery
        machine(monkeypatch, home, "second")
        paint(home / "photos" / "new.png", 50)
        (home / "photos" / "a" / "0.png").unlink()
        summary = extract(config, photos(config))  # on a machine that has never seen the index
        assert (summary.added, summary.removed, summary.equal) == (1, 1, 9)
        machine(monkeypatch, home, "searching")
        downloaded: list[str] = []
        download = ObjectPath.download
        monkeypatch.setattr(
            ObjectPath, "download", lambda self, target: downloaded.append(str(self)) or download(self, target)
        )
        newest = gallery.newest()
        assert newest is not gallery
        assert len(newest) == 10
        assert len(downloaded) == 3  # catalog, globals and locals of the new part alone
        assert len(gallery.index.locals(["a/0.png"])) == 1  # the generation before stays readable
        newest.close()
    copies = list(cache_folder().glob("*/read/globals/*"))
    named = {file.path for part in Index(local_copy(config).index).manifest.parts for file in part.files.values()}
    assert {f"globals/{path.name}" for path in copies} >= {name for name in named if name.startswith("globals/")}


def test_of_two_runs_one_is_refused_and_the_other_stays_whole(
    home: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = in_bucket(home, bucket.url)
    extract(config, photos(config))
    publish, done = PublishedIndex.publish, []

    def late(self: PublishedIndex, *arguments: Any) -> None:
        if not done:
            done.append(True)
            machine(monkeypatch, home, "quicker")
            paint(home / "photos" / "theirs.png", 61)
            extract(config, photos(config))
            machine(monkeypatch, home, "first")
        publish(self, *arguments)

    monkeypatch.setattr(PublishedIndex, "publish", late)
    paint(home / "photos" / "ours.png", 60)
    with pytest.raises(LockedError, match=r"another run has published a generation since this one began.*run it again"):
        extract(config, photos(config))
    assert "theirs.png" in Index(local_copy(config).index).records
    summary = extract(config, photos(config))
    assert (summary.images, summary.added) == (12, 0)  # theirs had both: ours was there when they listed the photos
    held(config)


def test_two_first_runs(home: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    config = in_bucket(home, bucket.url)
    publish, done = PublishedIndex.publish, []

    def late(self: PublishedIndex, *arguments: Any) -> None:
        if not done:
            done.append(True)
            machine(monkeypatch, home, "quicker")
            extract(config, photos(config))
            machine(monkeypatch, home, "first")
        publish(self, *arguments)

    monkeypatch.setattr(PublishedIndex, "publish", late)
    with pytest.raises(LockedError):
        extract(config, photos(config))
    before = bucket.get("my index/index.json")
    assert extract(config, photos(config)).equal == 10
    assert bucket.get("my index/index.json") == before


def test_work_that_was_not_published_is_continued_or_dropped_aloud(
    home: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config = in_bucket(home, bucket.url)
    extract(config, photos(config))
    paint(home / "photos" / "new.png", 50)
    with monkeypatch.context() as broken:
        broken.setattr(PublishedIndex, "publish", _refuse)
        with pytest.raises(RelookError, match="the network is away"):
            extract(config, photos(config))
    assert "new.png" not in Index(local_copy(config).index).records
    with monkeypatch.context() as patched:
        patched.setattr(TinyDescriber, "describe", lambda *_: pytest.fail("described again"))
        assert extract(config, photos(config)).images == 11
    assert "new.png" in Index(local_copy(config).index).records
    paint(home / "photos" / "newer.png", 51)
    with monkeypatch.context() as broken:
        broken.setattr(PublishedIndex, "publish", _refuse)
        with pytest.raises(RelookError, match="the network is away"):
            extract(config, photos(config))
    machine(monkeypatch, home, "second")
    paint(home / "photos" / "other.png", 52)
    extract(config, photos(config))
    machine(monkeypatch, home, "first")
    with caplog.at_level(logging.WARNING):
        assert reindex(config, photos(config)).images == 13
    assert "another run has published since" in caplog.text
    held(config)


def _refuse(*_: Any) -> None:
    raise RelookError("the network is away")


def test_nothing_is_uploaded_twice(home: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    config = in_bucket(home, bucket.url)
    extract(config, photos(config))
    sent: list[str] = []
    upload = ObjectPath.upload
    monkeypatch.setattr(ObjectPath, "upload", lambda self, source: sent.append(str(self)) or upload(self, source))
    extract(config, photos(config))
    assert sent == []
    paint(home / "photos" / "new.png", 50)
    extract(config, photos(config))
    assert len(sent) == 4  # catalog, globals and locals of the new part, and what could not be read


def test_a_copied_index_directory_is_an_index_there(home: Path, bucket: Bucket) -> None:
    local, config = tiny_config(home), in_bucket(home, bucket.url)
    extract(local, photos(local))
    paint(home / "photos" / "new.png", 50)
    extract(local, photos(local))
    bucket.put_folder(local.index, "my index")
    assert held(config) == held(local)
    assert extract(config, photos(config)).equal == 11


def test_garbage(home: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    config = in_bucket(home, bucket.url)
    with pytest.raises(RelookError, match=r"my index: no index here \(there is no index.json\)"):
        Gallery(config)
    extract(config, photos(config))
    good, machines = bucket.get("my index/index.json"), iter("abcdefghi")
    part = next(key for key in bucket.listing() if "/locals/" in key)
    content = bucket.get(part)
    flipped = bytes([content[0] ^ 1]) + content[1:]
    edited = json.loads(good)
    edited["parts"][0]["files"]["locals"]["path"] = "../../outside.h5"
    cases: list[tuple[str, bytes | None, str]] = [
        (part, content[:100], "100 bytes instead of"),
        (part, flipped, "damaged .its checksum differs"),
        (part, None, "missing"),
        ("my index/index.json", good[:-5], "index.json: cannot be read"),
        ("my index/index.json", b"\xff\xfe", "index.json: cannot be read"),
        ("my index/index.json", json.dumps(edited).encode(), "damaged .*leads out of the index"),
    ]
    for key, wrong, words in cases:
        machine(monkeypatch, home, next(machines))
        if wrong is None:
            bucket.delete(key)
        else:
            bucket.put(key, wrong)
        with pytest.raises(RelookError, match=words) as caught:
            Gallery(config)
        assert "\n" not in str(caught.value)
        assert str(caught.value).startswith(f"{bucket.url}/my index")
        bucket.put(part, content)
        bucket.put("my index/index.json", good)
        assert len(Gallery(config)) == 10  # the same copy, once the bucket is whole


def test_a_part_that_was_cut_off_in_the_bucket_is_uploaded_again(home: Path, bucket: Bucket) -> None:
    config = in_bucket(home, bucket.url)
    extract(config, photos(config))
    part = next(key for key in bucket.listing() if "/globals/" in key)
    content = bucket.get(part)
    bucket.put(part, content[:50])
    paint(home / "photos" / "new.png", 50)
    extract(config, photos(config))
    assert bucket.get(part) == content


def test_a_bucket_that_is_not_there_or_refuses(home: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    config = in_bucket(home, bucket.url)
    nowhere = config.model_copy(update={"index": Path("s3://no-such-bucket-here/index")})
    with pytest.raises(RelookError, match="there is no bucket 'no-such-bucket-here'"):
        extract(nowhere, photos(config))
    with pytest.raises(RelookError, match="no-such-bucket-here"):
        Gallery(nowhere)
    azure = config.model_copy(update={"index": Path("abfs://bucket/index")})
    with pytest.raises(RelookError, match="an index is written to s3:// and gs:// alone"):
        extract(azure, photos(config))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(home / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(home / "none"))
    with pytest.raises(RelookError, match=r"refuses access.*AWS_ACCESS_KEY_ID"):
        extract(config, photos(config))


def test_other_verbs_say_what_they_need(
    home: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    config = in_bucket(home, bucket.url)
    for verb in (compact, lambda config: IndexWriter(config.index)):
        with pytest.raises(RelookError, match="needs an index directory on a disk"):
            verb(config)
    assert not list(tmp_path.glob("s3*"))


def test_a_server_without_conditional_writes_is_refused(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    class Forgetful(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("ETag", '"x"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Forgetful)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    place = object_path(f"{bucket.url}/index/index.json")
    assert place is not None
    with pytest.raises(RelookError, match="ignores conditional writes"):
        ConditionalObject(place).replace(b"{}", None)
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_each_server_has_a_copy_of_its_own(
    home: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """Two servers may have buckets of one name; the one here is called by both of its names."""
    config = in_bucket(home, bucket.url)
    extract(config)
    first = local_copy(config).index
    monkeypatch.setenv(variable, bucket.endpoint.replace("127.0.0.1", "localhost"))
    other = local_copy(config).index
    assert other != first
    assert local_copy(config).index == other
    assert {path.name for path in first.iterdir()} == {path.name for path in other.iterdir()}


def test_a_write_that_meets_itself_has_been_done(bucket: Bucket) -> None:
    place = object_path(f"{bucket.url}/index/index.json")
    assert place is not None
    one = ConditionalObject(place)
    one.replace(b"first", None)
    one.replace(b"first", None)  # sent again after an answer that was lost
    with pytest.raises(LockedError):
        one.replace(b"second", None)
    content, tag = one.read() or (b"", "")
    one.replace(b"second", tag)
    with pytest.raises(LockedError):
        one.replace(b"third", tag)
    assert content == b"first"
    assert bucket.get("index/index.json") == b"second"


def test_records_are_equal(home: Path, bucket: Bucket) -> None:
    """Photos and index in one bucket: nothing but the cache is on the disk."""
    bucket.put_folder(home / "photos", "photos")
    config = in_bucket(home, bucket.url)
    extract(config, f"{bucket.url}/photos")
    local = tiny_config(home)
    extract(local, photos(local))
    one, other = (Index(local_copy(c).index).records.values() for c in (config, local))
    assert [replace(r, mtime_ns=0) for r in one] == [replace(r, mtime_ns=0) for r in other]
    assert np.array_equal(
        np.concatenate([p.vectors for p in Index(local_copy(config).index).globals_parts()]),
        np.concatenate([p.vectors for p in Index(local.index).globals_parts()]),
    )
