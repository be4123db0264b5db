"""Folders as sources: which photos are found, what is left out, what stops the run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from catalog_sources import ids, refusal, touch

from pipeline.catalog import load_catalog


def test_a_folder_is_searched_to_any_depth_and_sorted(tmp_path: Path) -> None:
    touch(tmp_path, "b.jpg", "a/z.png", "a/b/c/d/e.webp", "a.jpg", "B.jpg", "a-b/x.gif")
    catalog = load_catalog(str(tmp_path))
    assert ids(catalog) == ["B.jpg", "a-b/x.gif", "a.jpg", "a/b/c/d/e.webp", "a/z.png", "b.jpg"]
    assert [record.path for record in catalog] == ids(catalog)
    assert len(catalog) == 6
    assert catalog.root == tmp_path.resolve()
    assert catalog.file(catalog.records[3]) == tmp_path.resolve() / "a" / "b" / "c" / "d" / "e.webp"
    assert {record.label for record in catalog} == {""}
    assert {record.split for record in catalog} == {""}


def test_hidden_files_and_folders_are_left_out_and_other_files_counted(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", ".b.jpg", ".cache/c.jpg", "sub/.d.jpg", "sub/._e.jpg")
    touch(tmp_path, "notes.txt", "sub/readme.md", "sub/noending", "paper.pdf", "film.mpg", "index.h5", ".DS_Store")
    catalog = load_catalog(str(tmp_path))
    assert ids(catalog) == ["a.jpg"]
    assert catalog.ignored == 6


def test_endings_in_upper_case_and_several_formats(tmp_path: Path) -> None:
    names = [
        "A.JPG",
        "b.Jpeg",
        "c.PNG",
        "d.tif",
        "e.TIFF",
        "f.bmp",
        "g.webp",
        "h.gif",
        "i.ppm",
        "j.jp2",
        "k.avif",
        "l.heic",
        "m.HIF",
    ]
    assert ids(load_catalog(str(touch(tmp_path, *names)))) == names


@pytest.mark.parametrize(("labels", "wanted"), [("folder", ["", "cat", "siamese"]), ("none", ["", "", ""])])
def test_the_folder_can_be_the_label(labels: Any, wanted: list[str], tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg", "cat/2.jpg", "cat/siamese/3.jpg")
    assert [record.label for record in load_catalog(str(tmp_path), labels)] == wanted


def test_names_in_any_script(tmp_path: Path) -> None:
    names = ["Ölberg/Straße 1.jpg", "東京/浅草.jpg", "a b/c d.jpg", "x,y;z=1.jpg", 'it\'s "here".jpg', "🗼.png"]
    touch(tmp_path, *names)
    assert ids(load_catalog(str(tmp_path))) == sorted(names)


def test_a_name_that_is_no_utf_8_is_a_failure_in_print(tmp_path: Path) -> None:
    """No table could hold it as an id."""
    touch(tmp_path, "sub/good.jpg")
    try:
        os.close(os.open(os.fsencode(tmp_path) + b"/sub/caf\xe9 \xc3\xa9.jpg", os.O_CREAT))
    except OSError:
        pytest.skip("this file system takes no such names")
    catalog = load_catalog(str(tmp_path))
    assert ids(catalog) == ["sub/good.jpg"]
    name = "sub/caf\\xe9 é.jpg"
    assert catalog.failed == ((name, name, "its name is not UTF-8; rename the file"),)
    (tmp_path / "sub" / "good.jpg").unlink()
    assert refusal(str(tmp_path)) == f"{tmp_path}: holds no images; the names of 1 are not UTF-8, such as {name}"


def test_links_to_files_count_and_links_to_folders_are_not_followed(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/a.jpg", "photos/b.jpg")
    photos = tmp_path / "photos"
    (photos / "again").symlink_to(tmp_path / "elsewhere")
    (photos / "round").symlink_to(photos)
    (photos / "c.jpg").symlink_to(tmp_path / "elsewhere" / "a.jpg")
    (photos / "gone.jpg").symlink_to(tmp_path / "nothing.jpg")
    catalog = load_catalog(str(photos))
    assert ids(catalog) == ["b.jpg", "c.jpg", "gone.jpg"]  # the last is an error when it is read
    assert catalog.ignored == 2


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    touch(tmp_path, "photos/b.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    assert ids(load_catalog(str(tmp_path / "link"))) == ["b.jpg"]


def test_a_folder_without_photos(tmp_path: Path) -> None:
    assert refusal(str(tmp_path)) == f"{tmp_path}: holds no images"
    assert refusal(str(touch(tmp_path, ".hidden.jpg"))) == f"{tmp_path}: holds no images"


def test_a_folder_without_photos_says_what_was_ignored(tmp_path: Path) -> None:
    touch(tmp_path, "film.mp4", "b.MP4", "Makefile", "m.csv", *(f"{number}.pdf" for number in range(3)))
    line = refusal(str(tmp_path)).removeprefix(f"{tmp_path}: holds no images; 7 files ignored: 3 .pdf, 2 .mp4, ")
    counts, hint = line.split("; ")
    assert sorted(counts.split(", ")) == [
        "1 .csv",
        "1 files without an ending",
    ]  # equal counts in the order of the walk
    assert hint == "a table of images is given by its own path"


def test_what_is_ignored_beside_photos_is_counted_by_ending(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "relook")
    touch(tmp_path, "a.jpg", "b.mp4", "sub/c.mp4", *(f"{number}.e{number}" for number in range(10)))
    assert load_catalog(str(tmp_path)).ignored == 12
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(f"{tmp_path}: 12 files ignored: 2 .mp4, 1 .e")
    assert caplog.messages[0].endswith(", 3 others")


NAS = [
    *(
        "@eaDir/0.jpg/SYNOPHOTO_THUMB_M.jpg",
        "#recycle/1.jpg",
        "sub/@EADIR/x.jpg",
        "lost+found/2.jpg",
        "__MACOSX/._a.jpg",
    ),
    *(
        "$RECYCLE.BIN/3.jpg",
        "System Volume Information/x.jpg",
        ".thumbnails/t.jpg",
        "._0.jpg",
        "Cat Previews.lrdata/p.jpg",
    ),
    *("Thumbs.db", ".dtrash/d.jpg", "@Recycle/r.jpg", "#snapshot/daily/0.jpg", ".Trash-1000/files/t.jpg"),
]


def test_folders_of_drives_and_photo_software_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "relook")
    touch(tmp_path, "0.jpg", "sub/1.jpg", *NAS)
    catalog = load_catalog(str(tmp_path))
    assert ids(catalog) == ["0.jpg", "sub/1.jpg"]
    assert catalog.ignored == 0
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(f"{tmp_path}: left out by catalog.exclude: 4 .*, 2 @eaDir, 1 ")
    assert len(load_catalog(str(tmp_path), exclude=None)) == 2 + len(NAS) - 1
    assert load_catalog(str(tmp_path), exclude=[]).ignored == 1  # Thumbs.db


def test_patterns_of_what_is_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "a (copy).JPG", "sub/a.jpg", "sub/raw/b.jpg", "raw/c.jpg", "d.tif")
    assert ids(load_catalog(str(tmp_path), exclude=["RAW"])) == ["a (copy).JPG", "a.jpg", "d.tif", "sub/a.jpg"]
    assert ids(load_catalog(str(tmp_path), exclude=["* (copy).*", "*.tif", "sub/raw"])) == [
        "a.jpg",
        "raw/c.jpg",
        "sub/a.jpg",
    ]


def test_a_closed_folder_that_is_left_out_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a.jpg", "lost+found/b.jpg")
    scandir = os.scandir

    def refuse(path: Any) -> Any:
        assert not str(path).endswith("lost+found")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert ids(load_catalog(str(tmp_path))) == ["a.jpg"]


def test_a_folder_inside_that_cannot_be_read_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a.jpg", "closed/b.jpg")
    scandir = os.scandir

    def refuse(path: Any) -> Any:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    line = refusal(str(tmp_path))
    assert line.startswith(f"{tmp_path / 'closed'}: Permission denied; its photos would count as removed: ")
    assert ids(load_catalog(str(tmp_path), exclude=["closed"])) == ["a.jpg"]
