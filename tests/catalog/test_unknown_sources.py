"""Sources that are neither folder nor table nor data set."""

from __future__ import annotations

from pathlib import Path

import pytest
from catalog_sources import refusal, touch

from pipeline.catalog import load_catalog
from pipeline.errors import RelookError, UsageError


@pytest.mark.parametrize("name", ["gone", "gone/deeper", "gone.csv", "gone.parquet", "./a:b", ""])
def test_nothing_there(name: str, tmp_path: Path) -> None:
    source = str(tmp_path / name) if name else str(tmp_path / "gone")
    assert refusal(source) == f"{source}: no such folder or manifest"


def test_names_that_no_file_can_have(tmp_path: Path) -> None:
    assert "too long" in refusal("x" * 5000)
    assert "no such folder" in refusal("~/photos")  # the configuration expands it; here it is a name like any other
    assert "no such folder" in refusal("a\0b")


def test_a_file_of_another_type(tmp_path: Path) -> None:
    touch(tmp_path, "photo.jpg")
    assert refusal(str(tmp_path / "photo.jpg")).endswith(
        "expected a folder or a manifest ending in .csv, .tsv, .txt or .parquet"
    )


def test_an_unknown_data_set_suggests_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"unknown data set 'grocry'; did you mean 'grocery'\?"):
        load_catalog("grocry:/data")
    with pytest.raises(UsageError, match=r"unknown data set 'zzz'; known: .*grocery"):
        load_catalog("zzz:/data")


@pytest.mark.parametrize("source", ["https://example.org/photos", "ftp://bucket/photos"])
def test_a_url_is_said_to_be_one(source: str) -> None:
    with pytest.raises(RelookError, match=f"{source}: relook reads files and fetches no URLs; download it"):
        load_catalog(source)


@pytest.mark.parametrize("source", [r"C:\photos", "C:/photos", "2024:06"])
def test_a_path_with_a_colon_is_no_data_set(source: str) -> None:
    with pytest.raises(RelookError, match="no such folder or manifest"):
        load_catalog(source)
