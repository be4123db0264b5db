"""Results survive every encoding and width of stdout: escaped where they must be, never folded in a pipe."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from cli_helpers import QUICK, ROOT, document, draw, relook
from hypothesis import given
from hypothesis import strategies as st
from stores_helpers import make_card

from pipeline.cli.streams import write_json
from pipeline.files import visible
from pipeline.stores import IndexWriter
from pipeline.types import Description, ImageRecord

NAME = "Zürich 東京.jpg"
LONG = "/".join(["a-folder-with-a-long-name"] * 12) + "/" + NAME


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two equal photos, in an index whose own name is not ASCII."""
    folder = tmp_path_factory.mktemp("output") / "Index Zürich 東京"
    vector = np.eye(8, dtype=np.float32)[0]
    records = [ImageRecord(name, name, "", "", None, 64, 48, 10, 1, "ab") for name in (NAME, LONG)]
    with IndexWriter(folder) as writer:
        writer.begin(make_card(local_dimension=0), {}, Path("/photos"), "parquet")
        writer.add(records, [Description(vector), Description(vector)])
    return folder


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "utf-8"])
def test_what_an_encoding_lacks_is_escaped(encoding: str, index: Path) -> None:
    def shown(*flags: str) -> str:
        words = [sys.executable, ROOT / "cli.py", "duplicates", "--index", index, "--equal-only", *flags]
        done = subprocess.run(words, capture_output=True, env={**os.environ, "PYTHONIOENCODING": encoding}, check=True)
        return done.stdout.decode(encoding)

    assert f"/photos/{NAME.encode(encoding, 'backslashreplace').decode(encoding)}" in shown()
    document = shown("--json")
    assert json.loads(document)["groups"][0]["members"][0]["id"] == NAME
    assert document.isascii() == (encoding != "utf-8")


@pytest.mark.parametrize("locale", ["POSIX", "C"])
def test_names_are_utf8_in_every_locale(locale: str, index: Path) -> None:
    settings = {"LC_ALL": locale, "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = relook("info", index, "--json", **settings)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["index"] == str(index)


def test_a_path_stays_on_one_line_in_a_pipe(index: Path) -> None:
    done = relook("duplicates", "--index", index, "--equal-only", COLUMNS="")
    assert any(LONG in line for line in done.stdout.splitlines())


def logged(message: str) -> str:
    """What a verb that logs this message writes to stderr."""
    code = (
        "import logging; from pipeline.cli.run import Run; Run(None, None, {}, False, 0, False); "
        f"logging.getLogger('relook').warning({message!r})"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stderr


def test_a_message_is_one_plain_line_in_a_pipe() -> None:
    message = "a word of warning " * 20
    (line,) = logged(message).splitlines()
    assert line.endswith(f"WARNING {message}")
    assert len(line) < len(message) + 40


@given(st.text(), st.sampled_from(["ascii", "utf-8", "cp1252", "utf-16"]))
def test_json_is_valid_in_every_encoding(text: str, encoding: str) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    write_json({"id": text}, stream)
    stream.flush()
    assert json.loads(stream.buffer.getvalue().decode(encoding)) == {"id": text}  # type: ignore[attr-defined]


def test_json_holds_names_that_are_not_unicode() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    write_json({"id": "bad\udcff"}, stream)
    stream.flush()
    assert json.loads(stream.buffer.getvalue()) == {"id": "bad\udcff"}  # type: ignore[attr-defined]


HOSTILE = "a\x1b[31m\x9b2J\u202egpj\n.jpg"
ESCAPED = "a\\x1b[31m\\x9b2J\\u202egpj\\n.jpg"


class TestControlCharacters:
    """A terminal would obey them: the name of a photo could rewrite what is shown, or add lines to a log."""

    @pytest.mark.parametrize("flags", [(), ("--tsv",)])
    def test_results_show_them_escaped(self, flags: tuple[str, ...], tmp_path: Path) -> None:
        draw(tmp_path / "photos" / HOSTILE, 1, 0)
        index = tmp_path / "index"
        document("extract", tmp_path / "photos", "--index", index, *QUICK)
        done = relook("search", tmp_path / "photos" / HOSTILE, "--index", index, *flags, COLUMNS="")
        assert done.returncode == 0, done.stderr
        assert f"photos/{ESCAPED}" in done.stdout
        assert visible(done.stdout, "\n\t") == done.stdout
        assert document("search", tmp_path / "photos", "--index", index)["queries"][0]["results"][0]["id"] == HOSTILE

    def test_failures_and_errors_show_them_escaped(self, tmp_path: Path) -> None:
        photos = tmp_path / "photos"
        draw(photos / "good.jpg", 1, 0)
        (photos / HOSTILE).write_text("not a picture")
        document("extract", photos, "--index", tmp_path / "index", *QUICK)
        assert ESCAPED in relook("info", tmp_path / "index", "--failures", COLUMNS="").stdout
        (line,) = relook("search", photos / HOSTILE, "--index", tmp_path / "index").stderr.splitlines()
        assert visible(line) == line
        assert "a\\x1b[31m\\x9b2J\\u202egpj .jpg" in line

    def test_a_message_of_the_log_stays_one_line(self) -> None:
        (line,) = logged(HOSTILE).splitlines()
        assert line.endswith(f"WARNING {ESCAPED}")

    @given(st.text())
    def test_json_holds_none(self, text: str) -> None:
        stream = io.StringIO()
        write_json({"id": text}, stream)
        line = stream.getvalue().removesuffix("\n")
        assert not [character for character in line if unicodedata.category(character) == "Cc"]
        assert json.loads(line) == {"id": text}

    @given(st.text())
    def test_what_is_visible_has_none_and_is_visible_already(self, text: str) -> None:
        result = visible(text)
        assert not [character for character in result if unicodedata.category(character) in ("Cc", "Zl", "Zp")]
        assert visible(result) == result

    @given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs", "M"])))
    def test_other_text_is_shown_as_it_is(self, text: str) -> None:
        assert visible(text) == text
