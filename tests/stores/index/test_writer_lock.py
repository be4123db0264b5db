"""One writer at a time: the second is told who has the lock, and no killed process blocks."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from stores_helpers import (
    content,
    make_index,
    make_items,
    start,
)

from pipeline.errors import LockedError, RelookError
from pipeline.stores import Index, IndexWriter


def attempt(connection: Any, directory: Path) -> None:
    try:
        with IndexWriter(directory):
            connection.send(("", 0))
    except RelookError as error:
        connection.send((f"{type(error).__name__}: {error}", error.exit_code))


def hold(connection: Any, directory: Path) -> None:
    with IndexWriter(directory) as writer:
        writer.add(*make_items(["held"], 1, [1]))
        connection.send("held")
        connection.recv()


def test_a_second_writer_is_told_who_holds_the_lock(tmp_path: Path) -> None:
    make_index(tmp_path)
    with IndexWriter(tmp_path):
        process, connection = start(attempt, tmp_path)
        message, code = connection.recv()
        process.join()
        with pytest.raises(LockedError), IndexWriter(tmp_path):
            pass
        assert content(Index(tmp_path))  # readers need no lock
    assert message.startswith(f"LockedError: {tmp_path}: another run holds the lock (pid {os.getpid()} on ")
    assert "\n" not in message
    assert code == 75
    process, connection = start(attempt, tmp_path)
    assert connection.recv() == ("", 0)
    process.join()


def test_the_lock_of_a_killed_process_does_not_block(tmp_path: Path) -> None:
    make_index(tmp_path)
    process, connection = start(hold, tmp_path)
    assert connection.recv() == "held"
    with pytest.raises(LockedError, match=f"pid {process.pid} on "), IndexWriter(tmp_path):
        pass
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    with IndexWriter(tmp_path) as writer:
        writer.add(*make_items(["next"], 2, [1]))
    assert sorted(Index(tmp_path).records) == ["a", "b", "c", "held", "next"]


def test_a_failing_writer_lets_go_of_the_lock(tmp_path: Path) -> None:
    make_index(tmp_path)
    with pytest.raises(ZeroDivisionError), IndexWriter(tmp_path):
        raise ZeroDivisionError
    with IndexWriter(tmp_path):
        pass
