"""The file of answers: what is read back, what is refused, and what a kill leaves."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import RelookError
from pipeline.train.mining.answers import ANSWERS, AnswerFile, read_answers, write_questions
from pipeline.train.mining.pair_file import names_of

IDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=4)
GIVEN = st.lists(st.tuples(IDS, IDS, st.sampled_from([*ANSWERS, ""])).filter(lambda one: one[0] != one[1]), max_size=9)


@given(given_answers=GIVEN)
def test_what_was_added_is_read_back(
    given_answers: list[tuple[str, str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("answers") / "answers.csv"
    file = AnswerFile(path)
    expected: dict[tuple[str, str], str] = {}
    for first, second, answer in given_answers:
        file.add(first, second, answer)
        expected.pop(names_of(first, second), None)
        if answer:
            expected[names_of(first, second)] = answer
    found = read_answers(path) if given_answers else {}
    assert list(found.items()) == list(expected.items()) == list(file.answers.items())


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("a.jpg,b.jpg,maybe", "answer = 'maybe' must be yes, no, unsure or empty"),
        ("a.jpg,b.jpg", "2 cells where the first line has 3"),
        ("a.jpg,a.jpg,yes", "'a.jpg' with itself"),
        (",b.jpg,yes", "the id of an image is empty"),
        ("a.jpg,b.jpg,un", "answer = 'un' must be yes, no, unsure or empty"),
        ('"a.jpg,b.jpg,yes', "unexpected end of data"),
        ("a\0.jpg,b.jpg,yes", "NUL"),
    ],
)
def test_garbage_is_refused_with_its_line(line: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "answers.csv"
    path.write_text(f"first,second,answer\nc.jpg,d.jpg,yes\n{line}")
    with pytest.raises(RelookError) as refused:
        AnswerFile(path)
    assert str(refused.value).startswith(f"{path}, line 3: ")
    assert reason in str(refused.value)


def test_another_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "answers.csv"
    path.write_text("path,label\na.jpg,tower\n")
    with pytest.raises(RelookError, match=r"line 1: no column 'first'; the first line is: first,second,answer"):
        AnswerFile(path)


def test_a_person_may_edit_the_file(tmp_path: Path) -> None:
    path = tmp_path / "answers.csv"
    path.write_text("﻿answer,first,second,note\r\nyes,b,a,sure\r\n\r\n,c,d,\r\nno,a,b,on reflection")
    file = AnswerFile(path)
    assert file.answers == {("a", "b"): "no"}
    write_questions(tmp_path / "pairs.csv", [("c", "d")])
    assert (tmp_path / "pairs.csv").read_text() == "first,second,answer\nc,d,\n"


def test_an_answer_follows_a_line_without_an_end(tmp_path: Path) -> None:
    path = tmp_path / "answers.csv"
    path.write_text("first,second,answer\na,b,yes")
    AnswerFile(path).add("c", "d", "no")
    assert read_answers(path) == {("a", "b"): "yes", ("c", "d"): "no"}
