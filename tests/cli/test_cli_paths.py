"""Arguments of the command line that are paths: `~` and variables are expanded as in a configuration."""

from __future__ import annotations

import inspect
import json
import typing
from pathlib import Path

import pytest
from cli_helpers import QUICK, draw, relook

from pipeline.cli import app
from pipeline.cli.options import expanded_path, expanded_source

# Parameters that are settings, which the configuration expands.
SETTINGS = {"config", "index", "labels", "report", "checkpoint", "directory", "veto", "answers"}
# Parameters that are photos: a path or NAME:FOLDER.
SOURCES = {"images", "photos", "queries"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder with photos and an index of them."""
    home = tmp_path_factory.mktemp("home")
    for label in range(3):
        draw(home / "photos" / f"{label}.jpg", label, 0)
    done = relook("extract", "~/photos", "--index", "~/ix", *QUICK, HOME=str(home))
    assert done.returncode == 0, done.stderr
    assert (home / "ix" / "index.json").is_file()
    return home


def test_a_search_expands_its_photos_and_its_page(home: Path) -> None:
    arguments = ("~/photos/0.jpg", "$MINE/1.jpg", "--index", "~/ix", "--html", "${MINE}/page.html", "--json")
    done = relook("search", *arguments, HOME=str(home), MINE=str(home / "photos"))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["queries"]
    assert [one["query"] for one in found] == [str(home / "photos" / name) for name in ("0.jpg", "1.jpg")]
    assert [one["results"][0]["id"] for one in found] == ["0.jpg", "1.jpg"]
    assert (home / "photos" / "page.html").is_file()


def test_other_verbs_expand_theirs(home: Path) -> None:
    for arguments in (
        ("export", "globals", "~/v.npz", "--index", "~/ix"),
        ("export", "~/l.hdf5", "--index", "~/ix"),
        ("info", "~/ix"),
        ("duplicates", "--index", "~/ix", "--html", "~/d.html"),
        ("reindex", "--images", "~/photos", "--index", "~/ix", "--metrics", "~/m.prom", *QUICK),
    ):
        done = relook(*arguments, HOME=str(home))
        assert done.returncode == 0, (arguments, done.stderr)
    assert {"v.npz", "l.hdf5", "d.html", "m.prom"} <= {path.name for path in home.iterdir()}


def test_errors_name_the_expanded_path(home: Path) -> None:
    done = relook("convert", "~/none.pt", "~/x.safetensors", HOME=str(home))
    assert (done.returncode, f"{home}/none.pt" in done.stderr) == (1, True), done.stderr
    done = relook("compare", "$GONE/report")
    assert done.returncode == 2
    assert "the variable 'GONE' is not set" in done.stderr


def test_a_file_whose_name_has_such_characters(home: Path, tmp_path: Path) -> None:
    names = ("~odd.jpg", "a$b.jpg")
    for name in names:
        (tmp_path / name).write_bytes((home / "photos" / "2.jpg").read_bytes())
    done = relook("search", *names, "--index", "~/ix", "--json", cwd=tmp_path, HOME=str(home))
    assert done.returncode == 0, done.stderr
    assert [one["results"][0]["id"] for one in json.loads(done.stdout)["queries"]] == ["2.jpg", "2.jpg"]


@pytest.mark.parametrize("command", app.registered_commands, ids=lambda command: command.callback.__name__)
def test_no_parameter_is_forgotten(command: typing.Any) -> None:
    hints = typing.get_type_hints(command.callback, include_extras=True)
    for name, parameter in inspect.signature(command.callback).parameters.items():
        kind, info = typing.get_args(hints[name])[:2]
        is_path = Path in (kind, *typing.get_args(kind))
        if name not in SETTINGS and (is_path or name in SOURCES):
            assert info.parser is (expanded_path if is_path else expanded_source), name
            # A default goes through the parser as well.
            assert parameter.default in (inspect.Parameter.empty, None) or info.parser(parameter.default)
