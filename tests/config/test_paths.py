"""Paths in settings: `~` and variables are expanded once, wherever a setting is a path, or the error names them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from pipeline.config import Config, expand_argument, expand_path, load_config, parse_config, with_values
from pipeline.config.paths import SOURCE, _is_path, _section_of
from pipeline.errors import UsageError


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    monkeypatch.setenv("PHOTOS", "/mnt/photos")
    monkeypatch.setenv("ODD", "$HOME/~x")
    monkeypatch.delenv("GONE", raising=False)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("~", "/home/ann"),
        ("~/ix", "/home/ann/ix"),
        ("./~/ix", "./~/ix"),
        ("a/~/b", "a/~/b"),
        ("a~", "a~"),
        ("$PHOTOS/a", "/mnt/photos/a"),
        ("${PHOTOS}2024/a", "/mnt/photos2024/a"),
        ("~/$PHOTOS", "/home/ann/mnt/photos"),
        ("a$$PHOTOS", "a$PHOTOS"),
        ("a$", "a$"),
        ("$5.jpg", "$5.jpg"),
        ("$ODD", "$HOME/~x"),  # a value is not expanded again
        ("grocery:~/data", "grocery:/home/ann/data"),
        ("grocery:$PHOTOS", "grocery:/mnt/photos"),
        ("C:~/x", "C:~/x"),
    ],
)
def test_a_path_is_expanded(text: str, wanted: str) -> None:
    assert expand_path(text) == wanted


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("$GONE/ix", "$GONE/ix: the variable 'GONE' is not set; set it, or write $$ for a dollar sign"),
        ("${GONE}", "the variable 'GONE' is not set"),
        ("${}", "the variable '' is not set"),
        (
            "~nobody-of-this-name/x",
            "there is no user 'nobody-of-this-name'; write a name that begins with a tilde as ./~",
        ),
    ],
)
def test_what_cannot_be_expanded(text: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        expand_path(text)
    assert says in str(caught.value)


def test_an_argument_that_names_a_file_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("~odd.jpg", "a$GONE.jpg"):
        with pytest.raises(UsageError):
            expand_argument(name)
        Path(name).touch()
        assert expand_argument(name) == name
    Path("~").mkdir()
    assert expand_argument("~/ix") == "/home/ann/ix"


def path_settings(model: type[BaseModel] = Config, above: str = "") -> list[str]:
    found = []
    for name, field in model.model_fields.items():
        section = _section_of(field)
        if section is not None:
            found += path_settings(section, f"{above}{name}.")
        elif _is_path(field):
            found.append(above + name)
    return found


def value_at(config: Config, key: str) -> Any:
    found: Any = config
    for name in key.split("."):
        found = getattr(found, name)
    return found


def test_every_setting_that_is_a_path_is_known_to_be_one() -> None:
    """Those whose type says it, and the texts that are marked; a text that begins like one would be forgotten."""
    settings = path_settings()
    assert {"index", "catalog.images", "catalog.labels_file", "evaluate.dataset", "evaluate.report"} <= set(settings)
    assert {"describe.checkpoint", "rerank.rrt.checkpoint", "train_rerank.out", "store.ann.directory"} <= set(settings)
    assert SOURCE in Config.model_fields["catalog"].annotation.model_fields["images"].metadata  # type: ignore[union-attr]


# Settings that another one has to allow.
ALLOWED_BY = {"describe.locals.detector": ("kind", "detector")}


@pytest.mark.parametrize("key", path_settings())
def test_each_is_expanded_from_a_file_and_from_set(key: str, tmp_path: Path) -> None:
    *sections, name = key.split(".")
    text = "".join(f"{'  ' * depth}{section}:\n" for depth, section in enumerate(sections))
    file = tmp_path / "c.yaml"
    indent, allowing = "  " * len(sections), []
    if key in ALLOWED_BY:
        other, value = ALLOWED_BY[key]
        text += f"{indent}{other}: {value}\n"
        allowing = [f"{'.'.join([*sections, other])}={value}"]
    file.write_text(f"{text}{indent}{name}: ~/$PHOTOS\n")
    for config in (load_config(file), load_config(None, [*allowing, f"{key}=~/${{PHOTOS}}"])):
        assert Path(value_at(config, key)) == Path("/home/ann//mnt/photos")
    with pytest.raises(UsageError, match=rf"^--set: {key} = \$GONE: the variable 'GONE' is not set"):
        load_config(None, [f"{key}=$GONE"])
    file.write_text(file.read_text().replace("~/$PHOTOS", "$GONE"))
    with pytest.raises(UsageError, match=rf"c.yaml: {key} = \$GONE: "):
        load_config(file)


def test_texts_that_are_no_paths_stay() -> None:
    config = load_config(None, ["catalog.exclude=['$RECYCLE.BIN', '~x']", "store.pinecone.name=$GONE"])
    assert config.catalog.exclude == ("$RECYCLE.BIN", "~x")
    assert config.store.pinecone.name == "$GONE"


def test_a_path_is_expanded_once() -> None:
    config = load_config(None, ["index=a$$GONE"])
    assert config.index == Path("a$GONE")
    assert with_values(config, {"seed": 3}, "test").index == Path("a$GONE")
    assert with_values(config, {"evaluate.report": "~/r"}, "test").evaluate.report == Path("/home/ann/r")
    assert parse_config({"index": "~/ix"}, "test").index == Path("/home/ann/ix")


def test_the_configuration_itself_may_be_below_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "c.yaml").write_text("seed: 3\n")
    assert load_config(Path("~/c.yaml")).seed == 3
