"""Data sets brought from a server on the loopback interface, or from files that are here; cuts, kills, bad archives."""

from __future__ import annotations

import hashlib
import io
import json
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import miniatures
import pytest
from archives import tar_of, zip_of
from cli_helpers import ROOT, document, refused, relook
from loopback import Site, serving

from pipeline.catalog import load_catalog, load_ground_truth
from pipeline.catalog.registry import DATASETS
from pipeline.config import load_config
from pipeline.errors import LockedError, RelookError, UsageError
from pipeline.fetch import SOURCES, folder_lock
from pipeline.fetch.archives import unpack
from pipeline.fetch.download import download
from pipeline.stages.fetch import fetch

ANSWERS = "/revisitop/data/datasets/roxford5k/gnd_roxford5k.pkl"
PHOTOS = "/~vgg/data/oxbuildings/oxbuild_images-v1.tgz"
CONTENT = bytes(range(256)) * 4000


@pytest.fixture(scope="module")
def miniature(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> Path:
    folder = tmp_path_factory.mktemp("roxford5k")
    miniatures.revisited(folder, "roxford5k", shared)
    return folder


@pytest.fixture
def site(miniature: Path) -> Iterator[Site]:
    """What the authors of Revisited Oxford publish, in miniature; their archive has folders."""
    files = {f"photos/{photo.name}": photo.read_bytes() for photo in (miniature / "jpg").iterdir()}
    with serving(Site({ANSWERS: (miniature / "gnd_roxford5k.pkl").read_bytes(), PHOTOS: tar_of(files, "gz")})) as site:
        yield site


@pytest.fixture
def landmarks(tmp_path: Path, shared: Path) -> Iterator[Site]:
    """Google Landmarks v2 in miniature: one archive a split, each with its MD5 beside it."""
    made = tmp_path / "made"
    miniatures.landmarks(made, shared)
    files: dict[str, bytes] = {}
    for split in ("index", "test", "train"):
        photos = {str(file.relative_to(made / split)): file.read_bytes() for file in (made / split).rglob("*.jpg")}
        archive = tar_of(photos)
        files[f"/google-landmark/{split}/images_000.tar"] = archive
        words = f"{hashlib.md5(archive).hexdigest()}  images_000.tar\n"
        files[f"/google-landmark/md5sum/{split}/md5.images_000.txt"] = words.encode()
        for table in (made / split).glob("*.csv"):
            where = "ground_truth" if "solution" in table.name else "metadata"
            files[f"/google-landmark/{where}/{table.name}"] = table.read_bytes()
    with serving(Site(files)) as site:
        yield site


def config_of(site: Site, *settings: str) -> Any:
    return load_config(None, [f"fetch.mirror={site.address}", "fetch.attempts=3", *settings])


def ledger(folder: Path) -> dict[str, dict[str, Any]]:
    return {entry["url"]: entry for entry in json.loads((folder / "fetched.json").read_text())["files"]}


def same_photos(folder: Path, miniature: Path) -> None:
    assert (folder / "gnd_roxford5k.pkl").read_bytes() == (miniature / "gnd_roxford5k.pkl").read_bytes()
    photos = {photo.name: photo.read_bytes() for photo in (miniature / "jpg").iterdir()}
    assert {photo.name: photo.read_bytes() for photo in (folder / "jpg").iterdir()} == photos


# --- the way through --------------------------------------------------------------------------------------------------


def test_from_the_command_line_to_a_catalog(site: Site, tmp_path: Path, miniature: Path) -> None:
    arguments = ["fetch", "roxford5k", "--out", tmp_path / "set", "--set", f"fetch.mirror={site.address}"]
    result = document(*arguments)
    assert result["source"] == f"roxford5k:{tmp_path / 'set'}"
    assert (result["files"], result["downloaded"], result["unproved"]) == (2, 2, 2)
    assert result["bytes"] == sum(map(len, site.files.values()))
    same_photos(tmp_path / "set", miniature)
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == [
        ".fetch.lock",
        "fetched.json",
        "gnd_roxford5k.pkl",
        "jpg",
    ]
    catalog, truth = load_catalog(result["source"]), load_ground_truth(result["source"])
    assert len(catalog) == result["images"]
    assert all((truth.root / query.path).is_file() for query in truth.queries)
    entries = ledger(tmp_path / "set")
    assert {entry["checksum"] for entry in entries.values()} == {"not published"}
    for url, entry in entries.items():
        content = site.files["/" + url.split("/", 3)[3]]
        assert (entry["bytes"], entry["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    site.asked.clear()
    assert document(*arguments)["downloaded"] == 0
    assert site.asked == []  # what is there is not asked for again


def test_checksums_that_are_published_are_compared(landmarks: Site, tmp_path: Path) -> None:
    result = fetch(config_of(landmarks), "gldv2", tmp_path / "set", first=0)
    assert (result.downloaded, result.unproved) == (5, 5)
    for name, splits in (("gldv2-train-clean", ["train"]), ("gldv2", ["index", "test"])):
        sources_of_one = [file for file in SOURCES[name] if not file.archive or "images_000" in file.url]
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(SOURCES, name, sources_of_one)
            result = fetch(config_of(landmarks), name, tmp_path / "set")
        assert result.downloaded == len(splits) + (name != "gldv2")
        source = f"{name}:{tmp_path / 'set'}"
        catalog = load_catalog(source)
        assert all(catalog.file(record).is_file() for record in catalog)
    truth = load_ground_truth(source)
    assert all((truth.root / query.path).is_file() for query in truth.queries)
    checked = {entry["url"].split("/")[-2]: entry["checksum"] for entry in ledger(tmp_path / "set").values()}
    for split in ("index", "test", "train"):
        archive = landmarks.files[f"/google-landmark/{split}/images_000.tar"]
        assert checked[split] == f"md5:{hashlib.md5(archive).hexdigest()}"


def test_a_wrong_checksum_is_refused_and_forgotten(landmarks: Site, tmp_path: Path) -> None:
    path = "/google-landmark/test/images_000.tar"
    right = landmarks.files[path]
    landmarks.files[path] = right[:-2000] + b"x" + right[-1999:]
    with pytest.raises(RelookError, match=r"images_000.tar: its md5 is \w{32}, published is \w{32}"):
        fetch(config_of(landmarks), "gldv2", tmp_path / "set", first=1)
    assert not list((tmp_path / "set").rglob("*.jpg"))
    assert not any("images_000" in url for url in ledger(tmp_path / "set"))
    landmarks.files[path] = right
    assert fetch(config_of(landmarks), "gldv2", tmp_path / "set", first=1).downloaded == 1


def test_a_list_of_checksums(tmp_path: Path, shared: Path) -> None:
    miniatures.ilias(tmp_path / "made", shared)
    core = tmp_path / "made" / "ilias_core"
    archive = tar_of({f"ilias_core/{file.relative_to(core)}": file.read_bytes() for file in core.rglob("*.*")})
    lines = f"{'0' * 64} https://vrg.fel.cvut.cz/ilias_data/yfcc100m/yfcc100m_00000.tar\n"
    lines += f"{hashlib.sha256(archive).hexdigest()} https://vrg.fel.cvut.cz/ilias_data/ilias_core.tar\n"
    files = {"/ilias_data/ilias_core.tar": archive, "/ilias_data/checksums.txt": lines.encode()}
    with serving(Site(files)) as site:
        result = fetch(config_of(site), "ilias", tmp_path / "set")
        assert result.unproved == 0
        assert len(load_ground_truth(result.source).queries) > 5
        site.files["/ilias_data/checksums.txt"] = b"nothing\n"
        with pytest.raises(RelookError, match=r"has no checksum of ilias_core.tar"):
            fetch(config_of(site), "ilias", tmp_path / "other")


# --- connections that fail --------------------------------------------------------------------------------------------


def bring(site: Site, target: Path, attempts: int = 3) -> list[int]:
    """Download /file; returns the lengths that were told."""
    told: list[int] = []
    with httpx.Client(timeout=5) as client:
        download(client, f"{site.address}/file", target, attempts, lambda have, _total: told.append(have))
    return told


def test_a_connection_that_is_cut_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.fetch.download._WAIT", 0.01)
    with serving(Site({"/file": CONTENT}, cut=200_000)) as site:
        bring(site, tmp_path / "file", attempts=1)
    assert (tmp_path / "file").read_bytes() == CONTENT
    starts = [0, *(int(asked[6:-1]) for asked in site.ranges_of("/file")[1:])]
    assert starts == sorted(set(starts))  # each attempt goes on where the last was cut
    assert len(starts) == -(-len(CONTENT) // 200_000)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("change", [{"ranges": False}, {"tags": False}])
def test_a_server_that_cannot_go_on_begins_anew(
    change: dict[str, bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.fetch.download._WAIT", 0.01)
    with serving(Site({"/file": CONTENT}, cut=300_000, **change)) as site:
        with pytest.raises(RelookError, match="gave up after 3 attempts"):
            bring(site, tmp_path / "file")
        assert not (tmp_path / "file").exists()
        site.cut = None
        bring(site, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_another_version_is_not_appended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.fetch.download._WAIT", 0.01)
    with serving(Site({"/file": CONTENT}, cut=0)) as site:
        with pytest.raises(RelookError, match="gave up"):
            bring(site, tmp_path / "file", attempts=1)
        (tmp_path / "file.part").write_bytes(CONTENT[:1000])
        site.files["/file"], site.cut = CONTENT[::-1], None
        bring(site, tmp_path / "file")
    assert site.ranges_of("/file")[-1] == "bytes=1000-"
    assert (tmp_path / "file").read_bytes() == CONTENT[::-1]


def test_a_beginning_that_is_longer_than_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.fetch.download._WAIT", 0.01)
    with serving(Site({"/file": CONTENT}, cut=1000)) as site:
        site.ranges = False
        with pytest.raises(RelookError, match="gave up"):
            bring(site, tmp_path / "file", attempts=1)
        with (tmp_path / "file.part").open("ab") as stream:
            stream.write(CONTENT)
        site.cut, site.ranges = None, True
        bring(site, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_servers_that_are_busy_and_servers_that_refuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.fetch.download._WAIT", 0.01)
    with serving(Site({"/file": CONTENT}, statuses=[503, 429])) as site:
        bring(site, tmp_path / "file")
        assert (tmp_path / "file").read_bytes() == CONTENT
        site.statuses = [503] * 9
        with pytest.raises(RelookError, match=r"gave up after 2 attempts \(the server answers 503\)"):
            bring(site, tmp_path / "second", attempts=2)
        site.statuses, site.files = [], {}
        asked = len(site.asked)
        with pytest.raises(RelookError, match=r"/file: the server answers 404 Not Found"):
            bring(site, tmp_path / "third")
        assert len(site.asked) == asked + 1  # what is not there is not asked for twice
    with pytest.raises(RelookError, match="gave up after 2 attempts"):
        bring(site, tmp_path / "gone", attempts=2)


def test_a_full_disk_is_seen_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _path: type("Usage", (), {"free": 5})())
    with (
        serving(Site({"/file": CONTENT})) as site,
        pytest.raises(RelookError, match="1,024,000 bytes are missing"),
    ):
        bring(site, tmp_path / "file")


def test_killed_and_resumed(site: Site, tmp_path: Path, miniature: Path) -> None:
    site.slow = 0.05
    command = [sys.executable, str(ROOT / "cli.py"), "fetch", "roxford5k", "--out", str(tmp_path), "-q"]
    command += ["--set", f"fetch.mirror={site.address}"]
    process = subprocess.Popen(command, cwd=tmp_path)
    part = tmp_path / ".downloads" / f"{PHOTOS.strip('/').replace('/', '_')}.part"
    give_up = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size > 20_000):
        assert process.poll() is None
        assert time.monotonic() < give_up
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    have = part.stat().st_size
    assert 0 < have < len(site.files[PHOTOS])
    assert not (tmp_path / "jpg").exists()
    site.slow = 0.0
    done = relook(*command[2:], "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["downloaded"] == 1  # the ground truth was there
    assert site.ranges_of(PHOTOS) == ["", f"bytes={have}-"]
    same_photos(tmp_path, miniature)


def test_killed_while_unpacking(site: Site, tmp_path: Path, miniature: Path) -> None:
    """A whole download is unpacked again, not downloaded again; what was half written is written over."""
    copy = tmp_path / ".downloads" / PHOTOS.strip("/").replace("/", "_")
    copy.parent.mkdir()
    copy.write_bytes(site.files[PHOTOS])
    (tmp_path / "jpg").mkdir()
    (tmp_path / "jpg" / next((miniature / "jpg").iterdir()).name).write_bytes(b"half")
    fetch(config_of(site), "roxford5k", tmp_path)
    assert site.ranges_of(PHOTOS) == []
    same_photos(tmp_path, miniature)


def test_one_run_at_a_time(site: Site, tmp_path: Path) -> None:
    with folder_lock(tmp_path), pytest.raises(LockedError, match="another run is fetching"):
        fetch(config_of(site), "roxford5k", tmp_path)
    assert site.asked == []


# --- what is here already ---------------------------------------------------------------------------------------------


def test_from_a_folder_nothing_is_downloaded(site: Site, tmp_path: Path, miniature: Path) -> None:
    here = tmp_path / "here"
    (here / "roxford5k").mkdir(parents=True)
    (here / "roxford5k" / "gnd_roxford5k.pkl").write_bytes(site.files[ANSWERS])
    (here / "oxbuild_images-v1.tgz").write_bytes(site.files[PHOTOS])
    result = fetch(config_of(site), "roxford5k", tmp_path / "set", here)
    assert (result.downloaded, result.local) == (0, 2)
    assert site.asked == []
    same_photos(tmp_path / "set", miniature)
    assert (here / "oxbuild_images-v1.tgz").read_bytes() == site.files[PHOTOS]  # local copies stay


def test_from_one_archive_after_the_other(site: Site, tmp_path: Path, miniature: Path) -> None:
    archive, answers = tmp_path / "oxbuild_images-v1.tgz", tmp_path / "gnd_roxford5k.pkl"
    archive.write_bytes(site.files[PHOTOS])
    answers.write_bytes(site.files[ANSWERS])
    line = refused(1, "fetch", "roxford5k", "--out", tmp_path / "set", "--from", archive, "-q")
    assert "gnd_roxford5k.pkl are still lacking; nothing was downloaded" in line
    assert fetch(config_of(site), "roxford5k", tmp_path / "set", answers).local == 1
    same_photos(tmp_path / "set", miniature)
    with pytest.raises(RelookError, match="no such file or folder"):
        fetch(config_of(site), "roxford5k", tmp_path / "other", tmp_path / "gone")
    with pytest.raises(RelookError, match="holds none of the published files"):
        fetch(config_of(site), "roxford5k", tmp_path / "other", miniature / "jpg")


def test_archives_of_one_name_are_told_apart_by_their_folder(landmarks: Site, tmp_path: Path) -> None:
    here = tmp_path / "here"
    for path, content in landmarks.files.items():
        place = here / Path(path).parent.name / Path(path).name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    sources = [file for file in SOURCES["gldv2"] if not file.archive or "images_000" in file.url]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SOURCES, "gldv2", sources)
        result = fetch(config_of(landmarks), "gldv2", tmp_path / "set", here)
    assert result.local == len(sources)
    assert landmarks.asked == []
    catalog = load_catalog(result.source)
    assert all(catalog.file(record).is_file() for record in catalog)


def test_a_checksum_beside_a_local_copy_is_compared(tmp_path: Path) -> None:
    archive = tmp_path / "ilias_core.tar"
    archive.write_bytes(tar_of({"ilias_core/a_000/pos/P000_00.jpg": b"x"}))
    (tmp_path / "checksums.txt").write_text(f"{'0' * 64}  ilias_core.tar\n")
    with pytest.raises(RelookError, match="its sha256 is"):
        fetch(load_config(), "ilias", tmp_path / "set", archive)


# --- archives ---------------------------------------------------------------------------------------------------------


def special(name: str, kind: bytes, target: str = "") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, target
        tar.addfile(member)
    return buffer.getvalue()


def linked_zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        member = zipfile.ZipInfo("a.jpg")
        member.external_attr = 0o120777 << 16
        file.writestr(member, "/etc/passwd")
    return buffer.getvalue()


@pytest.mark.parametrize("wrap", [tar_of, lambda files: tar_of(files, "gz"), zip_of], ids=["tar", "tgz", "zip"])
def test_archives_of_all_kinds(wrap: Callable[[dict[str, bytes]], bytes], tmp_path: Path) -> None:
    files = {"top/a/1.jpg": b"one", "top/b/2.jpg": b"two" * 1000, "other.txt": b"", "./top/3.jpg": b"three"}
    (tmp_path / "x").write_bytes(wrap(files))
    assert unpack(tmp_path / "x", tmp_path / "all") == 4
    assert (tmp_path / "all" / "top" / "3.jpg").read_bytes() == b"three"
    assert unpack(tmp_path / "x", tmp_path / "below", below="top") == 3
    assert (tmp_path / "below" / "b" / "2.jpg").read_bytes() == b"two" * 1000
    assert unpack(tmp_path / "x", tmp_path / "flat", flat=True) == 4
    assert sorted(path.name for path in (tmp_path / "flat").iterdir()) == ["1.jpg", "2.jpg", "3.jpg", "other.txt"]
    with pytest.raises(RelookError, match="holds no files below nothing/"):
        unpack(tmp_path / "x", tmp_path / "none", below="nothing")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (tar_of({"../out.jpg": b"x"}), "leaves the folder"),
        (tar_of({"a/../../out.jpg": b"x"}), "leaves the folder"),
        (tar_of({"/out.jpg": b"x"}), "leaves the folder"),
        (tar_of({"C:\\out.jpg": b"x"}), "leaves the folder"),
        (zip_of({"../out.jpg": b"x"}), "leaves the folder"),
        (special("a", tarfile.SYMTYPE, "/etc/passwd"), "a link or a device"),
        (special("a", tarfile.LNKTYPE, "/etc/passwd"), "a link or a device"),
        (special("a", tarfile.CHRTYPE), "a link or a device"),
        (special("a", tarfile.FIFOTYPE), "a link or a device"),
        (linked_zip(), "a link or a device"),
        (tar_of({"a/1.jpg": b"x", "./a/1.jpg": b"y"}), "duplicate file"),
        (tar_of({"a": bytes(70 << 20)}, "gz"), "more than 20 times"),
        (zip_of({"a": bytes(70 << 20)}), "more than 20 times"),
        (tar_of({"a": CONTENT})[:500_000], "damaged"),
        (tar_of({"a": CONTENT}, "gz")[:-20], "damaged"),
        (tar_of({"a": CONTENT}, "gz")[:-8] + bytes(8), "damaged"),
        (zip_of({"a": CONTENT})[:-30], "damaged"),
        (b"<html>not found</html>", "damaged or no archive"),
        (tar_of({}), "holds no files"),
    ],
)
def test_hostile_and_damaged_archives(content: bytes, says: str, tmp_path: Path) -> None:
    archive = tmp_path / "x.tar"
    archive.write_bytes(content)
    with pytest.raises(RelookError, match=says) as caught:
        unpack(archive, tmp_path / "inside" / "folder")
    assert str(archive) in str(caught.value)
    outside = [path for path in tmp_path.rglob("*") if path.name.startswith("out")]
    assert outside == []


def test_links_in_the_folder_are_not_followed(tmp_path: Path) -> None:
    archive, folder, elsewhere = tmp_path / "x.tar", tmp_path / "folder", tmp_path / "elsewhere"
    archive.write_bytes(tar_of({"a/1.jpg": b"x"}))
    elsewhere.mkdir()
    folder.mkdir()
    (folder / "a").symlink_to(elsewhere)
    with pytest.raises(RelookError, match="leads out of"):
        unpack(archive, folder)
    (folder / "a").unlink()
    (folder / "a").mkdir()
    (folder / "a" / "1.jpg").symlink_to(elsewhere / "target")
    with pytest.raises(RelookError, match="is a link"):
        unpack(archive, folder)
    assert list(elsewhere.iterdir()) == []


# --- the list of places -----------------------------------------------------------------------------------------------


def test_every_published_data_set_has_its_places() -> None:
    assert set(DATASETS) - set(SOURCES) == {"classes"}
    for files in SOURCES.values():
        assert len({file.url for file in files}) == len(files)
        for file in files:
            assert file.url.startswith(("http://", "https://"))
            assert not file.target.startswith(("/", ".."))


def test_names_that_are_not_fetched(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'gldv2'"):
        fetch(load_config(), "gldv3", tmp_path)
    with pytest.raises(RelookError, match="published nowhere"):
        fetch(load_config(), "classes", tmp_path)
    with pytest.raises(UsageError, match="begins with http"):
        load_config(None, ["fetch.mirror=/etc"])
    (tmp_path / "fetched.json").write_text("[]")
    with pytest.raises(RelookError, match="remove it to fetch everything again"):
        fetch(load_config(), "roxford5k", tmp_path)
