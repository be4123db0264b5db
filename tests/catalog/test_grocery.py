"""The Grocery Store data set in its published layout."""

from __future__ import annotations

from pathlib import Path

import pytest
from catalog_sources import refusal

from pipeline.catalog import load_catalog

CLASSES = (
    "Class Name (str),Class ID (int),Coarse Class Name (str),Coarse Class ID (int),"
    "Iconic Image Path (str),Product Description Path (str)\n"
    "Golden-Delicious,0,Apple,0,/iconic/Golden.jpg,/iconic/Golden.txt\n"
    "Royal-Gala,1,Apple,0,/iconic/Gala.jpg,/iconic/Gala.txt\n"
)


@pytest.fixture
def grocery(tmp_path: Path) -> Path:
    (tmp_path / "classes.csv").write_text(CLASSES)
    (tmp_path / "train.txt").write_text("train/a/a_1.jpg, 0, 0\ntrain/b/b_1.jpg, 1, 0\n\n")
    (tmp_path / "val.txt").write_text("val/b/b_2.jpg, 1, 0\n")
    return tmp_path


def test_grocery_in_its_published_layout(grocery: Path) -> None:
    catalog = load_catalog(f"grocery:{grocery}")
    assert [(record.id, record.path, record.label, record.split) for record in catalog] == [
        ("iconic/Golden.jpg", "iconic/Golden.jpg", "Golden-Delicious", "iconic"),
        ("iconic/Gala.jpg", "iconic/Gala.jpg", "Royal-Gala", "iconic"),
        ("train/a/a_1.jpg", "train/a/a_1.jpg", "Golden-Delicious", "train"),
        ("train/b/b_1.jpg", "train/b/b_1.jpg", "Royal-Gala", "train"),
        ("val/b/b_2.jpg", "val/b/b_2.jpg", "Royal-Gala", "val"),
    ]
    assert catalog.root == grocery.resolve()


@pytest.mark.parametrize("line", ["val/x.jpg, 7, 0", "val/x.jpg", "val/x.jpg, 0", "a, b, 0, 0", "val/x.jpg, zero, 0"])
def test_a_bad_line_of_grocery_is_named(line: str, grocery: Path) -> None:
    (grocery / "val.txt").write_text(f"val/b/b_2.jpg, 1, 0\n{line}\n")
    assert refusal(f"grocery:{grocery}").startswith(f"{grocery / 'val.txt'}, line 2: expected ")


def test_grocery_without_its_files(grocery: Path) -> None:
    for name in ("train.txt", "val.txt"):
        (grocery / name).unlink()
    assert "there is no train.txt, val.txt or test.txt" in refusal(f"grocery:{grocery}")
    (grocery / "classes.csv").unlink()
    assert "there is no classes.csv" in refusal(f"grocery:{grocery}")
    assert "there is no classes.csv" in refusal(f"grocery:{grocery / 'gone'}")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name,number\na,1\n", ": not the classes of the Grocery Store data set"),
        (
            "Class Name (str),Class ID (int),Iconic Image Path (str)\nshort\n",
            ", row 1 (line 2): 1 cell, the header has 3",
        ),
        (CLASSES.replace("Gala,1", 'Gala,"1'), ", row 2 (line 3): column 'Class ID (int)': a quote is not closed"),
        (CLASSES.replace("Gala,1", "Gala,0"), ": duplicate class id"),
        ("\xff", ", line 1: cannot be read as CSV (byte 0xff is not UTF-8"),
    ],
)
def test_classes_of_something_else(text: str, says: str, grocery: Path) -> None:
    (grocery / "classes.csv").write_bytes(text.encode("latin-1"))
    assert refusal(f"grocery:{grocery}").startswith(f"{grocery / 'classes.csv'}{says}")


def test_the_shared_part_of_grocery_is_read_whole(shared: Path) -> None:
    catalog = load_catalog(f"grocery:{shared / 'data' / 'grocery'}")
    val = catalog.select("val")
    assert len(val) == 296
    assert len({record.label for record in val}) == 60
    assert all(catalog.file(record).is_file() for record in val)
