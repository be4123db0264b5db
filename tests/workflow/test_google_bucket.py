"""Photos and an index in a bucket of gs://: those of a disk to the last bit, written on a condition, by shards too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from bucket_machines import in_bucket, machine, photos
from google_server import GoogleBucket, google_bucket, google_server
from tiny import TinyDescriber, paint, tiny, tiny_config

from pipeline.config import Config
from pipeline.errors import LockedError, RelookError
from pipeline.files import object_path
from pipeline.files.conditional_put import ConditionalObject
from pipeline.stages.extract import extract, extract_shard, join
from pipeline.stores import Index
from pipeline.stores.index.published import PublishedIndex
from pipeline.workflow.bucket_index import local_copy
from pipeline.workflow.gallery import Gallery

__all__ = ["google_bucket", "google_server", "tiny"]

pytest.importorskip("google.cloud.storage", reason="pip install 'relook[gs]'")


@pytest.fixture
def home(tiny: None, tmp_path: Path, google_bucket: GoogleBucket, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twelve photos, and one that is none, on a disk and in the bucket; blocks of three photos."""
    for number in range(12):
        paint(tmp_path / "photos" / "ab"[number % 2] / f"{number:02d} ä.png", number)
    (tmp_path / "photos" / "a" / "bad.png").write_bytes(b"no photo")
    google_bucket.put_folder(tmp_path / "photos", "some photos")
    monkeypatch.setattr("pipeline.workflow.model_loading._BLOCK", 3)
    monkeypatch.setattr("pipeline.workflow.model_loading._BLOCK_BATCHES", 1)
    monkeypatch.setattr("pipeline.workflow.model_loading.open_describer", lambda *_: TinyDescriber(320))
    machine(monkeypatch, tmp_path, "first")
    return tmp_path


def seen(home: Path, config: Config) -> None:
    """The index of the bucket is that of a disk, but for the times of the photos."""
    local = tiny_config(home)
    extract(local, photos(local))
    one, other = (Index(local_copy(each).index) for each in (config, local))
    assert one.verify() == []
    ids = list(other.records)
    assert list(one.records) == ids
    assert [item.descriptors.tobytes() for item in one.locals(ids)] == [
        item.descriptors.tobytes() for item in other.locals(ids)
    ]
    vectors = [
        {name: row.tobytes() for part in each.globals_parts() for name, row in zip(part.ids, part.vectors, strict=True)}
        for each in (one, other)
    ]
    assert vectors[0] == vectors[1]
    assert [row[0] for row in one.failure_rows()] == [row[0] for row in other.failure_rows()] == ["a/bad.png"]


def test_photos_and_index_in_it(home: Path, google_bucket: GoogleBucket, monkeypatch: pytest.MonkeyPatch) -> None:
    config = in_bucket(home, google_bucket.url, images=f"{google_bucket.url}/some photos")
    summary = extract(config, photos(config))
    assert (summary.index, summary.images, summary.failed) == (f"{google_bucket.url}/my index", 12, 1)
    machine(monkeypatch, home, "searching")
    seen(home, config)
    photo = f"{google_bucket.url}/some photos/a/04 ä.png"
    with Gallery(config) as gallery:
        assert gallery.search(photo, rerank="none", skip_itself=False).hits[0].id == "a/04 ä.png"
    machine(monkeypatch, home, "second")
    assert extract(config, photos(config)).equal == 12


def test_shards_and_one_join(home: Path, google_bucket: GoogleBucket, monkeypatch: pytest.MonkeyPatch) -> None:
    config = in_bucket(home, google_bucket.url, images=f"{google_bucket.url}/some photos")
    for shard in ("2/3", "1/3", "3/3"):
        machine(monkeypatch, home, shard)
        assert extract_shard(config, shard, photos(config)).outcome == "done"
    machine(monkeypatch, home, "joining")
    assert join(config).images == 12
    seen(home, config)
    with pytest.raises(RelookError, match="there are no shards to join"):
        join(config)


def test_of_two_runs_one_is_refused(home: Path, google_bucket: GoogleBucket, monkeypatch: pytest.MonkeyPatch) -> None:
    config, begun = in_bucket(home, google_bucket.url, images=f"{google_bucket.url}/some photos"), []
    publish = PublishedIndex.publish

    def late(self: PublishedIndex, *arguments: Any) -> None:
        if not begun:
            begun.append(True)
            machine(monkeypatch, home, "quicker")
            extract(config, photos(config))
            machine(monkeypatch, home, "first")
        publish(self, *arguments)

    monkeypatch.setattr(PublishedIndex, "publish", late)
    with pytest.raises(LockedError, match=r"another run has published a generation since this one began.*run it again"):
        extract(config, photos(config))
    assert extract(config, photos(config)).equal == 12


def test_a_write_on_a_condition(google_bucket: GoogleBucket) -> None:
    place = object_path(f"{google_bucket.url}/index/index.json")
    assert place is not None
    one = ConditionalObject(place)
    assert one.read() is None
    one.replace(b"first", None)
    one.replace(b"first", None)  # sent again after an answer that was lost
    with pytest.raises(LockedError):
        one.replace(b"second", None)
    content, tag = one.read() or (b"", "")
    assert content == b"first"
    one.replace(b"second", tag)
    with pytest.raises(LockedError):
        one.replace(b"third", tag)
    assert google_bucket.get("index/index.json") == b"second"


def test_an_object_is_read_as_far_as_is_allowed(google_bucket: GoogleBucket) -> None:
    google_bucket.put("big", b"x" * 5000)
    place = object_path(f"{google_bucket.url}/big")
    assert place is not None
    assert place.read() == place.read(5000) == b"x" * 5000
    with pytest.raises(ValueError, match=r"5,000 bytes, more than the 4,999 allowed"):
        place.read(4999)
    with pytest.raises(FileNotFoundError):
        (place / "none").read()


def test_no_bucket_no_credentials_and_a_server_that_is_gone(
    home: Path, google_bucket: GoogleBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = in_bucket(home, google_bucket.url, images=f"{google_bucket.url}/some photos")
    nowhere = config.model_copy(update={"index": Path("gs://no-such-bucket-here/index")})

    def lines(config: Config) -> list[str]:
        said = []
        for verb in (
            lambda: extract(config, photos(config)),
            lambda: extract(config, str(home / "photos")),
            lambda: Gallery(config),
        ):
            with pytest.raises(RelookError) as caught:
                verb()
            assert "\n" not in str(caught.value)
            assert "error_info" not in str(caught.value)
            said.append(str(caught.value))
        return said

    for line in lines(nowhere)[1:]:
        assert "there is no bucket 'no-such-bucket-here' at 127.0.0.1" in line
    photos_nowhere = "gs://no-such-bucket-here/photos"
    with pytest.raises(RelookError, match="there is no bucket 'no-such-bucket-here'"):
        extract(config, photos_nowhere)
    monkeypatch.setattr("pipeline.files.store_access.RETRY_SECONDS", 1)
    monkeypatch.setattr("pipeline.files.conditional_gs.RETRY_SECONDS", 1)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")
    for line in lines(config):
        assert "the store cannot be used at 127.0.0.1:9; check the address in STORAGE_EMULATOR_HOST" in line
    monkeypatch.delenv("STORAGE_EMULATOR_HOST")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(home / "none.json"))
    for line in lines(config):
        assert "the store refuses access; set GOOGLE_APPLICATION_CREDENTIALS" in line
