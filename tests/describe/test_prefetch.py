"""Threads that work ahead: in order, bounded, and what happens to work that never comes back."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from photos import ROOT, make_photo

from pipeline.describe import prefetch as module
from pipeline.describe.prefetch import Patience, prefetch
from pipeline.describe.stream import Failed, ReadOptions, prepare_stream
from pipeline.errors import RelookError
from pipeline.types import Box, ImageRecord, Prepared

SHORT = 0.6


@pytest.fixture
def never() -> Iterator[threading.Event]:
    """Something to wait for in vain; it happens when the test is over, so that no thread stays."""
    event = threading.Event()
    yield event
    event.set()


def too_late(item: int) -> str:
    return f"{item} too late"


@settings(max_examples=40)
@given(st.integers(0, 40), st.integers(1, 5), st.integers(1, 9), st.booleans())
def test_results_come_in_order(count: int, workers: int, limit: int, patient: bool) -> None:
    patience = Patience[int, str](60, too_late) if patient else None
    assert list(prefetch(str, range(count), workers, limit, patience=patience)) == [str(item) for item in range(count)]


def test_no_more_than_the_limit_is_taken(never: threading.Event) -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(100):
            taken.append(item)
            yield item

    results = prefetch(str, items(), 2, 5)
    assert next(results) == "0"
    assert len(taken) == 5
    assert next(results) == "1"
    assert len(taken) == 6
    results.close()


def test_each_thread_is_prepared_once() -> None:
    prepared: list[int] = []
    list(prefetch(str, range(50), 3, 6, lambda: prepared.append(threading.get_ident())))
    assert 1 <= len(prepared) == len(set(prepared)) <= 3


def test_an_error_is_raised_in_its_place() -> None:
    def work(item: int) -> int:
        return 10 // (3 - item)

    results = prefetch(work, range(6), 2, 4)
    assert [next(results) for _ in range(3)] == [3, 5, 10]
    with pytest.raises(ZeroDivisionError):
        next(results)


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("stuck", [{0}, {7}, {3, 4, 5}, {4, 5, 6, 7}])
def test_what_never_comes_back_is_answered_and_the_others_are_done(
    workers: int, stuck: set[int], never: threading.Event
) -> None:
    def work(item: int) -> str:
        if item in stuck:
            never.wait()
        return str(item)

    wanted = [too_late(item) if item in stuck else str(item) for item in range(8)]
    assert list(prefetch(work, range(8), workers, 4, patience=Patience(SHORT, too_late))) == wanted


def test_stuck_items_wait_side_by_side(never: threading.Event) -> None:
    started = time.monotonic()
    results = list(prefetch(lambda _: never.wait(), range(8), 8, 8, patience=Patience(1.0, lambda _: False)))
    assert results == [False] * 8
    assert time.monotonic() - started < 5


def test_a_late_result_is_dropped_and_its_thread_ends() -> None:
    gate = threading.Event()
    threads: list[threading.Thread] = []

    def work(item: int) -> str:
        threads.append(threading.current_thread())
        if item == 0:
            gate.wait()
        return str(item)

    results = prefetch(work, range(4), 1, 1, patience=Patience(SHORT, too_late))
    assert [next(results), next(results)] == ["0 too late", "1"]
    gate.set()
    assert list(results) == ["2", "3"]
    late, *others = threads
    late.join(20)
    assert not late.is_alive()
    assert late not in others


def test_waiting_in_line_does_not_count(never: threading.Event) -> None:
    """One thread, each item takes most of the time that it has: none is late, though the last waits for all others."""

    def work(item: int) -> int:
        time.sleep(0.1)
        return item

    assert list(prefetch(work, range(6), 1, 6, patience=Patience(5, lambda _: -1))) == list(range(6))


def test_a_drive_that_is_gone_ends_the_run(never: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ABANDONED", 3)
    results = prefetch(lambda _: never.wait(), range(100), 2, 4, patience=Patience(0.05, lambda _: False))
    seen = []
    with pytest.raises(RelookError, match="4 images never came back; is the drive with the photos still there"):
        seen.extend(results)


def test_python_ends_although_a_thread_is_stuck() -> None:
    script = textwrap.dedent(
        """
        import threading
        from pipeline.describe.prefetch import Patience, prefetch
        work = lambda item: threading.Event().wait() if item == 1 else item
        print(list(prefetch(work, range(3), 2, 2, patience=Patience(1.0, lambda item: -item))))
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, cwd=ROOT, check=True
    )
    assert done.stdout == "[0, -1, 2]\n"


class Plain:
    """As much of a describer as readers need."""

    def prepare(self, image: np.ndarray, bbox: Box | None = None) -> Prepared:
        return Prepared([np.ascontiguousarray(image.transpose(2, 0, 1))], [(1, 1, 0, 0)], [1.0], *image.shape[1::-1])


def test_a_photo_on_a_drive_that_never_answers_costs_no_other(
    never: threading.Event, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{number}.png" for number in range(12)]
    for number, name in enumerate(names):
        make_photo(tmp_path / name, seed=number)
    opened = os.open

    def hang(path: Path, flags: int, *more: int) -> int:
        if Path(path).name in ("2.png", "3.png"):
            never.wait()
        return opened(path, flags, *more)

    monkeypatch.setattr(os, "open", hang)
    records = [ImageRecord(name, name) for name in names]
    reading = ReadOptions(2, 2, 1, 10**6, 10**6, seconds=1.5)
    failed: dict[str, str] = {}
    read: list[str] = []
    for batch in prepare_stream(Plain(), records, lambda record: tmp_path / record.path, reading):  # type: ignore[arg-type]
        if isinstance(batch, Failed):
            failed[batch.record.id] = batch.reason
        else:
            read += [item.record.id for item in batch]
    assert failed == dict.fromkeys(("2.png", "3.png"), "not read within 1.5 seconds")
    assert sorted(read) == sorted(set(names) - set(failed))


@pytest.mark.parametrize("block", [None, 3, 4, 7])
def test_batches_never_cross_a_block(block: int | None, tmp_path: Path) -> None:
    names = [f"{number}.png" for number in range(17)]
    for number, name in enumerate(names):
        make_photo(tmp_path / name, seed=number)
    (tmp_path / names[5]).write_bytes(b"no photo")
    records = [ImageRecord(name, name) for name in names]
    reading = ReadOptions(4, 2, 1, 10**6, 10**6, block=block)

    def batches_from(first: int) -> list[list[int]]:
        stream = prepare_stream(Plain(), records[first:], lambda record: tmp_path / record.path, reading)  # type: ignore[arg-type]
        found = [batch for batch in stream if not isinstance(batch, Failed)]
        return [[names.index(item.record.id) for item in batch] for batch in found]

    whole = batches_from(0)
    assert sorted(number for batch in whole for number in batch) == [number for number in range(17) if number != 5]
    if block:
        assert all(len({number // block for number in batch}) == 1 for batch in whole)
        # A stream that begins with a block has the batches of the whole one from there on.
        assert batches_from(2 * block) == [batch for batch in whole if batch[0] >= 2 * block]
