"""What a person says of pairs of photos: a CSV file that is only added to, one line an answer.

Written by `relook label`, read by it and by `relook adapt`. Its columns are `first`, `second` (ids of images) and
`answer`: yes, no, unsure, or nothing for a pair that is not answered yet or whose answer was taken back. The last line
of a pair counts, and other columns are not read.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from pipeline.errors import RelookError
from pipeline.files import append_line, write_bytes, write_errors
from pipeline.train.mining.pair_file import Names, names_of

YES, NO, UNSURE, NOTHING = "yes", "no", "unsure", ""
ANSWERS = (YES, NO, UNSURE)
_COLUMNS = ("first", "second", "answer")


class AnswerFile:
    """The answers in a file, which `add` writes through.

    Args:
        path: the file; it need not exist.

    Attributes:
        answers: of each pair, those that were given last at the end; pairs without one are not there.

    Raises:
        RelookError: the file cannot be read, or a line of it is none of an answer.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answers = read_answers(path) if path.exists() else {}

    def add(self, first: str, second: str, answer: str) -> None:
        """Keep an answer, "" to take it back; it is on the disk when this returns. Raises RelookError where not."""
        pair = names_of(first, second)
        with write_errors(self.path):
            if not self.path.exists() or not self.path.stat().st_size:
                append_line(self.path, _line(_COLUMNS))
            append_line(self.path, _line((*pair, answer)))
        self.answers.pop(pair, None)
        if answer:
            self.answers[pair] = answer


def read_answers(path: Path) -> dict[Names, str]:
    """The answers by pair, in the order in which they were given.

    Raises:
        RelookError: the file cannot be read, or a line of it is none of an answer; its number is named.
    """
    try:
        text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise RelookError(f"{path}: cannot read the answers ({error.strerror})") from None
    table = csv.reader(io.StringIO(text, newline=""), strict=True)
    found: dict[Names, str] = {}
    try:
        header = next(table, list(_COLUMNS))
        if missing := [name for name in _COLUMNS if name not in header]:
            raise RelookError(f"{path}, line 1: no column {missing[0]!r}; the first line is: {','.join(_COLUMNS)}")
        for row in table:
            if not row:
                continue
            cells = dict(zip(header, row, strict=False))
            if problem := _problem(cells, len(row), len(header)):
                raise RelookError(f"{path}, line {table.line_num}: {problem}; correct the line or remove it")
            pair = names_of(cells["first"], cells["second"])
            found.pop(pair, None)
            if cells["answer"]:
                found[pair] = cells["answer"]
    except csv.Error as error:
        raise RelookError(f"{path}, line {table.line_num}: {error}; correct the line or remove it") from None
    return found


def write_questions(path: Path, pairs: Iterable[Names]) -> None:
    """Write pairs without answers, for a person to fill in; replaces the file. Raises RelookError where it cannot."""
    with write_errors(path):
        write_bytes(path, b"".join(_line(row) + b"\n" for row in [_COLUMNS, *((*pair, "") for pair in pairs)]))


def _problem(cells: dict[str, str], found: int, expected: int) -> str:
    """What is wrong with a line; "" where nothing is."""
    if found != expected:
        return f"{found} cells where the first line has {expected}"
    if "\0" in "".join(cells.values()):
        return "a NUL byte"
    if not cells["first"] or not cells["second"]:
        return "the id of an image is empty"
    if cells["first"] == cells["second"]:
        return f"{cells['first']!r} with itself"
    if cells["answer"] not in (*ANSWERS, NOTHING):
        return f"answer = {cells['answer']!r} must be {', '.join(ANSWERS)} or empty"
    return ""


def _line(cells: Iterable[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(cells)  # cells with either of the two are quoted
    return text.getvalue().removesuffix("\r\n").encode("utf-8", "surrogateescape")
