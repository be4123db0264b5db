"""Places that cannot be written to, or are full: one clear error, and nothing has changed."""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from stores_helpers import (
    content,
    make_index,
    make_items,
    one_line,
    start,
)

from pipeline.errors import RelookError
from pipeline.stores import Index, IndexWriter


def test_a_place_that_cannot_be_written_to_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in ("file", "file/below"):
        with pytest.raises(RelookError) as error:
            IndexWriter(tmp_path / place)
        assert str(tmp_path / place) in one_line(error)
    before = make_index(tmp_path / "index").manifest
    shutil.move(tmp_path / "index" / "globals", tmp_path / "moved")
    (tmp_path / "index" / "globals").touch()
    with IndexWriter(tmp_path / "index") as writer, pytest.raises(RelookError) as error:
        writer.add(*make_items(["x"], 1, [1]))
    assert "cannot be written" in one_line(error)
    assert Index(tmp_path / "index").manifest == before


def write_as_nobody(connection: Any, directory: Path) -> None:
    if os.geteuid() == 0:  # who may write anywhere
        os.setuid(65534)
    try:
        with IndexWriter(directory):
            connection.send("written")
    except RelookError as error:
        connection.send(str(error))


def test_a_folder_without_permission_is_one_clear_error() -> None:
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "index"
        before = content(make_index(directory))
        Path(folder).chmod(0o755)
        directory.chmod(0o555)
        process, connection = start(write_as_nobody, directory)
        message = connection.recv()
        process.join()
        assert message.startswith(f"{directory}: cannot be written to")
        assert "\n" not in message
        assert content(Index(directory)) == before
        directory.chmod(0o755)


def write_within(connection: Any, directory: Path, limit: int) -> None:
    records, descriptions = make_items([f"{number}" for number in range(300)], 3, [20] * 300)
    with IndexWriter(directory) as writer:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        try:
            writer.add(records, descriptions)
            connection.send("written")
        except BaseException as error:
            connection.send(f"{type(error).__name__}: {error}")


@pytest.mark.parametrize("limit", [300, 3000, 9000, 20000])
def test_a_full_disk_is_one_clear_error_and_changes_nothing(tmp_path: Path, tables: Any, limit: int) -> None:
    before = content(make_index(tmp_path, tables))
    process, connection = start(write_within, tmp_path, limit)
    message = connection.recv()
    process.join()
    assert message.startswith("RelookError: ")
    assert "cannot be written" in message
    assert "\n" not in message
    assert content(Index(tmp_path)) == before
    assert Index(tmp_path).verify() == []
    with IndexWriter(tmp_path) as writer:
        writer.add(*make_items(["next"], 2, [1]))
    assert list(tmp_path.rglob("*.tmp")) == []
