"""Photos in a bucket: the index of the same folder on a disk, kept up to date, and one clear line for what is wrong."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bucket import Bucket, bucket, object_client, object_server
from loopback import Site, serving
from tiny import paint, tiny, tiny_config

from pipeline.catalog import load_catalog
from pipeline.config import Config
from pipeline.errors import ImageError, RelookError, UnreachableError, UsageError
from pipeline.files import ObjectPath, object_path
from pipeline.imaging import read_image
from pipeline.stages.extract import extract, extract_shard, join
from pipeline.stages.reindex import reindex
from pipeline.stores import Index

__all__ = ["bucket", "object_client", "object_server", "tiny"]

NAMES = ("a/0.png", "a/1.png", "b/2.png", "b/deep/3.png", "é ü/4 %41#+.png", "b.x/5.png", "b-x/6.png")


@pytest.fixture
def home(tiny: None, tmp_path: Path, bucket: Bucket) -> Path:
    """The same photos in a folder and in the bucket, with what is left out, ignored and unreadable."""
    photos = tmp_path / "photos"
    for number, name in enumerate(NAMES):
        paint(photos / name, number)
    paint(photos / ".hidden" / "7.png", 7)
    (photos / "a" / "notes.txt").write_text("no picture")
    (photos / "a" / "bad.png").write_bytes(b"no photo")
    (photos / "a" / "empty.png").write_bytes(b"")
    bucket.put_folder(photos, "my photos")
    return tmp_path


def config_of(home: Path, bucket: Bucket | None = None, name: str = "index") -> Config:
    config = tiny_config(home)
    images = f"{bucket.url}/my photos" if bucket else str(home / "photos")
    catalog = config.catalog.model_copy(update={"images": images})
    return config.model_copy(update={"index": home / name, "catalog": catalog})


def held(config: Config) -> Any:
    """Everything but times, which a bucket has of its own."""
    index = Index(config.index)
    records = [replace(record, mtime_ns=0) for record in index.records.values()]
    ids = [record.id for record in records]
    vectors = np.concatenate([part.vectors for part in index.globals_parts()])
    local = [item.descriptors.tobytes() for item in index.locals(ids)]
    return records, vectors.tobytes(), local, [name for name, _, _ in index.failure_rows()]


def test_ids_order_and_vectors_are_those_of_the_folder(home: Path, bucket: Bucket) -> None:
    folder, there = config_of(home), config_of(home, bucket, "bucket-index")
    one, other = extract(folder), extract(there)
    assert (other.images, other.failed, other.ignored) == (len(NAMES), 2, 1)
    assert (one.images, one.failed, one.ignored) == (other.images, other.failed, other.ignored)
    assert held(folder) == held(there)
    index = Index(there.index)
    assert index.manifest.images_root == f"{bucket.url}/my photos"
    assert str(index.image_file(index.records["a/0.png"])) == f"{bucket.url}/my photos/a/0.png"
    assert index.failure_rows()[0][2] == Index(folder.index).failure_rows()[0][2]


def test_only_what_changed_is_described_again(home: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(home, bucket)
    extract(config)
    monkeypatch.setattr("pipeline.files.ObjectPath.read", lambda *_: pytest.fail("read again"))
    monkeypatch.setattr("pipeline.files.ObjectPath._look_up", lambda *_: pytest.fail("looked up alone"))
    bucket.delete("my photos/a/bad.png")
    bucket.delete("my photos/a/empty.png")
    assert reindex(config).equal == len(NAMES)


def test_changes_in_the_bucket_are_found(home: Path, bucket: Bucket, tmp_path: Path) -> None:
    config = config_of(home, bucket)
    extract(config)
    paint(tmp_path / "new.png", 50)
    bucket.put("my photos/a/0.png", tmp_path / "new.png")  # another content
    bucket.put("my photos/moved.png", bucket.get("my photos/a/1.png"))  # the same content elsewhere
    bucket.delete("my photos/a/1.png")
    bucket.delete("my photos/b/2.png")
    paint(tmp_path / "more.png", 51)
    bucket.put("my photos/z/more.png", tmp_path / "more.png")
    summary = reindex(config, check_content=True)
    assert (summary.changed, summary.moved, summary.removed, summary.added) == (1, 1, 1, 1)
    fresh = config_of(home, bucket, "fresh")
    extract(fresh)
    assert sorted(map(repr, held(config)[0])) == sorted(map(repr, held(fresh)[0]))


def test_a_folder_becomes_a_bucket_without_describing_anything(home: Path, bucket: Bucket) -> None:
    extract(config_of(home))
    summary = reindex(config_of(home, bucket))
    assert (summary.added, summary.changed, summary.removed, summary.images) == (0, 0, 0, len(NAMES))
    assert Index(home / "index").manifest.images_root == f"{bucket.url}/my photos"


def test_shards_read_the_bucket(home: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.workflow.model_loading._BLOCK", 3)
    monkeypatch.setattr("pipeline.workflow.model_loading._BLOCK_BATCHES", 1)
    whole, divided = config_of(home, bucket), config_of(home, bucket, "divided")
    extract(whole)
    for number in (2, 1):
        assert extract_shard(divided, f"{number}/2").outcome == "done"
    assert join(divided).images == len(NAMES)
    assert held(whole) == held(divided)
    assert [r.mtime_ns for r in Index(whole.index).records.values()] == [
        r.mtime_ns for r in Index(divided.index).records.values()
    ]


def test_labels_and_exclusions_are_those_of_a_folder(home: Path, bucket: Bucket) -> None:
    for options in ({"labels": "folder"}, {"exclude": None}, {"exclude": ["b/*", "DEEP"]}, {"exclude": ["b"]}):
        folder = load_catalog(str(home / "photos"), **options)
        there = load_catalog(f"{bucket.url}/my photos/", **options)
        assert list(folder) == list(there)
        assert folder.ignored == there.ignored


def test_labels_lie_over_a_bucket(home: Path, bucket: Bucket, tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("path,label\na/0.png,castle\nb/deep/3.png,tower\n")
    config = config_of(home, bucket)
    catalog = config.catalog.model_copy(update={"labels_file": labels})
    extract(config.model_copy(update={"catalog": catalog}))
    found = {record.id: record.label for record in Index(config.index).records.values()}
    assert (found["a/0.png"], found["b/deep/3.png"], found["b/2.png"]) == ("castle", "tower", "b")


def test_options_of_the_url_lead_to_the_server(home: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    url = f"{bucket.url}/my photos?endpoint_override={bucket.endpoint}&region=us-east-1"
    config = config_of(home)
    assert extract(config, url).images == len(NAMES)
    index = Index(config.index)
    assert index.manifest.images_root == url
    photo = index.image_file(index.records["a/0.png"])
    assert str(photo) == f"{bucket.url}/my photos/a/0.png"
    assert photo.exists()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", bucket.endpoint)
    assert object_path(f"s3:/{bucket.name}/my photos/a/0.png").exists()  # as Path() writes it


def test_one_clear_line(home: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(home)
    bucket.put("texts/a.txt", b"text")
    for source, words in (
        ("s3://no-such-bucket-here/photos", "there is no bucket 'no-such-bucket-here'"),
        (f"{bucket.url}/no such folder", "no such folder"),
        (f"{bucket.url}/texts", "holds no images; 1 file ignored: 1 .txt"),
        (f"{bucket.url}/list.csv", "a table in a bucket is not read"),
        (f"{bucket.url}/my photos?endpoint_override=http://", "is not an address"),
    ):
        with pytest.raises(RelookError, match=words) as caught:
            extract(config, source)
        assert "\n" not in str(caught.value)
    for source in (f"s3://key:secret@{bucket.name}/x", f"{bucket.url}/x?secret_key=abc"):
        with pytest.raises(UsageError, match="a URL with credentials") as caught:
            extract(config, source)
        assert "abc" not in str(caught.value)
        assert "key:secret" not in str(caught.value)
    with serving(Site(statuses=[403] * 99)) as site:
        monkeypatch.setenv("AWS_ENDPOINT_URL", site.address)
        with pytest.raises(RelookError, match=r"refuses access at 127.0.0.1.*AWS_SECRET_ACCESS_KEY"):
            extract(config, f"{bucket.url}/my photos")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(UnreachableError, match=r"cannot be used at 127.0.0.1.*AWS_ENDPOINT_URL"):
            extract(config, f"{bucket.url}/my photos")
    assert not (config.index / "index.json").exists()


def test_a_store_that_goes_away_ends_the_run_and_loses_nothing(
    home: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, seen = config_of(home, bucket), []
    read = ObjectPath.read

    def unsteady(self: Any, most: int | None = None) -> bytes:
        seen.append(self)
        if len(seen) > 6:
            raise UnreachableError(f"{self}: the store cannot be used")
        return read(self, most)

    monkeypatch.setattr("pipeline.files.ObjectPath.read", unsteady)
    with pytest.raises(UnreachableError):
        extract(config)
    monkeypatch.setattr("pipeline.files.ObjectPath.read", read)
    extract(config)
    folder = config_of(home, name="folder")
    extract(folder)
    assert sorted(map(repr, held(config)[0])) == sorted(map(repr, held(folder)[0]))


def test_an_object_that_goes_after_the_listing_is_one_failure(home: Path, bucket: Bucket) -> None:
    catalog = load_catalog(f"{bucket.url}/my photos")
    bucket.delete("my photos/a/0.png")
    with pytest.raises(ImageError, match=r"a/0\.png: "):
        read_image(catalog.file(catalog.records[0]))
