"""Every example that `relook VERB --help` shows runs as it stands there, in a user's folder."""

from __future__ import annotations

import contextlib
import io
import shlex
from pathlib import Path

import miniatures
import pytest
from archives import tar_of
from doc_commands import QUICKER

from pipeline.cli.help import GROUPS
from pipeline.cli.run import app

# What the examples of a verb need before them; also the order in which verbs run.
FIRST = ("extract", "search", "evaluate", "compare", "train-global", "train-rerank", "upload")
# Run by .ci/run, and by test_serve_page.py and test_label.py, since a server does not end.
ELSEWHERE = ("demo", "serve")
SERVERS = ("relook label",)


@pytest.fixture(scope="module")
def folder(home: Path, shared: Path) -> Path:
    """The user's folder, with the published files of a data set in `downloads`."""
    made = home / "made"
    miniatures.revisited(made, "roxford5k", shared)
    (home / "downloads").mkdir()
    photos = {photo.name: photo.read_bytes() for photo in (made / "jpg").iterdir()}
    (home / "downloads" / "oxbuild_images-v1.tgz").write_bytes(tar_of(photos, "gz"))
    (made / "gnd_roxford5k.pkl").rename(home / "downloads" / "gnd_roxford5k.pkl")
    return home


def test_examples_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    examples = {verb: lines for group in GROUPS.values() for verb, lines in group.items() if verb not in ELSEWHERE}
    for verb in (*FIRST, *(name for name in examples if name not in FIRST)):
        for line in (one for one in examples[verb] if one not in SERVERS):
            words = [*shlex.split(line)[1:], *QUICKER.get(verb, [])]
            with io.StringIO() as text, contextlib.redirect_stdout(text):
                assert not app(words, prog_name="relook", standalone_mode=False), line
