"""The configuration: defaults, files, --set, and errors that name the key, the value and what would have worked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from photos import ROOT
from pydantic import BaseModel, ValidationError

from pipeline.config import Config, load_config, parse_config
from pipeline.errors import UsageError
from pipeline.rerank.registry import RERANKERS
from pipeline.stages.config import to_yaml

ODD_YAML = ["a: [", "a: b: c", "\t- x", "seed: 2020-13-45", "!!python/object:os.system {}", "a: *b", "[" * 500]


def write(folder: Path, text: str) -> Path:
    file = folder / "run.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def complaint(file: Path | None = None, *overrides: str) -> str:
    """The one line with which a configuration is refused."""
    with pytest.raises(UsageError) as caught:
        load_config(file, overrides)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    return str(caught.value)


def value_at(config: Config, key: str) -> Any:
    found: Any = config
    for name in key.split("."):
        found = getattr(found, name)
    return found


# --- defaults and files -----------------------------------------------------------------------------------------------


def test_without_a_file_there_are_the_defaults() -> None:
    assert load_config() == Config()
    assert load_config(None, []) == Config()
    assert Config().index == Path("relook-index")
    assert Config().device == "auto"
    assert Config().store.kind == "table"


def test_default_yaml_writes_the_defaults_out() -> None:
    file = ROOT / "configs" / "default.yaml"
    assert load_config(file) == Config()
    assert file.read_text(encoding="utf-8") == to_yaml(Config()), "write it again: relook config --yaml"


def test_every_configuration_that_is_shipped_can_be_read() -> None:
    for file in sorted((ROOT / "configs").glob("**/*.y*ml")):
        load_config(file)


def test_the_defaults_survive_a_round_trip_through_yaml(tmp_path: Path) -> None:
    text = yaml.safe_dump(Config().model_dump(mode="json"))
    assert load_config(write(tmp_path, text)) == Config()


def test_a_file_changes_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    text = "index: ~/idx\ndescribe:\n  image: {size: 224, resize: short}\nrerank: {chain: [superglobal, rrt]}\n"
    config = load_config(write(tmp_path, text))
    assert config.index == Path.home() / "idx"
    assert config.describe.image.size == 224
    assert config.describe.image.resize == "short"
    assert config.rerank.chain == ("superglobal", "rrt")
    defaults = Config().model_dump()
    changed = config.model_dump()
    changed["index"] = defaults["index"]
    changed["describe"]["image"] |= {key: defaults["describe"]["image"][key] for key in ("size", "resize")}
    changed["rerank"]["chain"] = defaults["rerank"]["chain"]
    assert changed == defaults


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n"])
def test_an_empty_file_is_the_defaults(text: str, tmp_path: Path) -> None:
    assert load_config(write(tmp_path, text)) == Config()


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    assert complaint(tmp_path / "gone.yaml").startswith(f"{tmp_path / 'gone.yaml'}: cannot read the configuration")
    assert "cannot read the configuration" in complaint(tmp_path)
    file = tmp_path / "run.yaml"
    file.write_bytes(b"index: caf\xe9\n")
    assert "cannot read the configuration" in complaint(file)


@pytest.mark.parametrize("text", ODD_YAML)
def test_a_file_that_is_no_yaml(text: str, tmp_path: Path) -> None:
    file = write(tmp_path, text)
    assert complaint(file).startswith(f"{file}: not valid YAML (")


@pytest.mark.parametrize(("text", "kind"), [("- a\n- b\n", "list"), ("hello\n", "str"), ("3\n", "int")])
def test_a_file_that_is_no_mapping(text: str, kind: str, tmp_path: Path) -> None:
    file = write(tmp_path, text)
    assert complaint(file) == f"{file}: expected keys and values, found {kind}"


def test_keys_that_are_no_texts(tmp_path: Path) -> None:
    assert "search.1" in complaint(write(tmp_path, "search: {1: 2}\n"))
    assert "run.yaml: 1 " in complaint(write(tmp_path, "1: 2\n"))


# --- --set ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "wanted"),
    [
        ("seed=7", 7),
        ("seed=-3", -3),
        ("device=cpu", "cpu"),
        ("index=/tmp/x=y", Path("/tmp/x=y")),
        ("describe.image.size=224", 224),
        (" describe.image.size =224", 224),
        ("describe.image.size= 224", 224),
        ("describe.globals.p=3", 3.0),
        ("describe.globals.p=learned", "learned"),
        ("describe.globals.scales=[0.5, 1]", (0.5, 1.0)),
        ("describe.globals.whiten=null", None),
        ("describe.globals.whiten=", None),
        ("describe.globals.whiten=128", 128),
        ("describe.image.mean=[0.5,0.5,0.5]", (0.5, 0.5, 0.5)),
        ("describe.locals.stage=3", 3),
        ("describe.locals.stage=final", "final"),
        ("describe.locals.count=0", 0),
        ("describe.checkpoint=weights.pth", Path("weights.pth")),
        ("describe.checkpoint=~", None),
        ("rerank.chain=[]", ()),
        ("rerank.chain=[superglobal, rrt]", ("superglobal", "rrt")),
        ("rerank.superglobal.weight=1", 1.0),
        ("train_rerank.learning_rate=1e-4", 1e-4),
        ("train_rerank.learning_rate=.001", 1e-3),
        ('evaluate.split="2014"', "2014"),
        ("evaluate.split=val", "val"),
    ],
)
def test_set_one_value(override: str, wanted: Any) -> None:
    config = load_config(None, [override])
    value = value_at(config, override.split("=")[0].strip())
    assert value == wanted
    assert type(value) is type(wanted) or isinstance(wanted, Path)
    assert config != Config() or wanted == value_at(Config(), override.split("=")[0].strip())


def test_set_a_whole_section_replaces_it() -> None:
    config = load_config(None, ["describe.image.crop=100", "describe.image={size: 224, resize: short}"])
    assert config.describe.image == Config().describe.image.model_copy(update={"size": 224, "resize": "short"})
    assert config.describe.image.crop is None
    assert config.describe.globals == Config().describe.globals


def test_set_comes_after_the_file_and_the_last_one_counts(tmp_path: Path) -> None:
    file = write(tmp_path, "seed: 1\nsearch: {top_k: 5}\ndescribe: {image: {size: 100, crop: 64}}\n")
    config = load_config(file, ["seed=2", "seed=3", "describe.image.size=128"])
    assert (config.seed, config.search.top_k) == (3, 5)
    assert (config.describe.image.size, config.describe.image.crop) == (128, 64)


def test_set_below_a_value_that_is_no_section() -> None:
    assert complaint(None, "seed=1", "seed.x=2").startswith("--set: seed = {'x': 2}: ")
    assert load_config(None, ["describe.image=null", "describe.image.size=64"]).describe.image.size == 64


@pytest.mark.parametrize("override", ["seed", "", "=3", "describe.image.size"])
def test_set_without_key_or_value(override: str) -> None:
    assert complaint(None, override).startswith(f"--set {override}: expected KEY=VALUE, such as ")


@pytest.mark.parametrize("value", ["[", "{a", "2020-13-45", "'open", "[" * 500])
def test_set_a_value_that_is_no_yaml(value: str) -> None:
    assert complaint(None, f"describe.name={value}").startswith(f"--set describe.name={value}: the value is not valid")


# --- unknown keys and bad values --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("serch.top_k=3", "unknown key serch; did you mean search?"),
        ("sed=3", "unknown key sed; did you mean seed?"),
        ("search.topk=3", "unknown key search.topk; did you mean search.top_k?"),
        ("describe.image.siz=3", "unknown key describe.image.siz; did you mean describe.image.size?"),
        ("describe.globals={p: 3, scale: [1]}", "describe.globals.scale; did you mean describe.globals.scales?"),
        ("train_rerank.rrt.head=2", "unknown key train_rerank.rrt.head; did you mean train_rerank.rrt.heads?"),
        (
            "evaluate.zzzzzz=3",
            "unknown key evaluate.zzzzzz; known: dataset, fill, protocol, report, split, timed, validation",
        ),
        ("seed.x=3", "seed = {'x': 3}"),
        (
            "evaluate..split=3",
            "unknown key evaluate.; known: dataset, fill, protocol, report, split, timed, validation",
        ),
    ],
)
def test_an_unknown_key_names_the_nearest_known_one(override: str, hint: str) -> None:
    assert hint in complaint(None, override)


def test_an_unknown_key_far_from_all_lists_the_known_ones() -> None:
    message = complaint(None, "qqq=1")
    assert message.startswith("--set: unknown key qqq; known: ")
    assert message.split("known: ")[1].split(", ") == sorted(Config.model_fields)


@pytest.mark.parametrize(
    ("override", "start"),
    [
        ("seed=abc", "seed = 'abc': "),
        ("seed=1.5", "seed = 1.5: "),
        ("device=gpu", "device = 'gpu': Input should be 'auto', 'cpu' or 'cuda'"),
        ("describe.image.size=0", "describe.image.size = 0: "),
        ("describe.image.size=big", "describe.image.size = 'big': "),
        ("describe.image.resize=wide", "describe.image.resize = 'wide': "),
        ("describe.image=5", "describe.image = 5: "),
        ("describe.image.mean=0.5", "describe.image.mean = 0.5: "),
        ("describe.image.mean=[a,0,0]", "describe.image.mean.0 = 'a': "),
        ("describe.image.std=[0,1,1]", "describe.image.std.0 = 0: "),
        ("describe.image.std=[1,1,.nan]", "describe.image.std.2 = nan: "),
        ("describe.globals.p=0", "describe.globals.p = 0: "),
        ("describe.globals.p=.inf", "describe.globals.p = inf: "),
        ("describe.globals.scales=[]", "describe.globals.scales = []: "),
        ("describe.globals.scales=[1, -1]", "describe.globals.scales.1 = -1: "),
        ("describe.locals.scales=[.nan]", "describe.locals.scales.0 = nan: "),
        ("describe.locals.count=-1", "describe.locals.count = -1: "),
        ("rerank.chain=superglobal", "rerank.chain = 'superglobal': "),
        ("rerank.superglobal.weight=1.1", "rerank.superglobal.weight = 1.1: "),
        ("rerank.superglobal.weight=.nan", "rerank.superglobal.weight = nan: "),
        ("rerank.rrt.weight=-0.1", "rerank.rrt.weight = -0.1: "),
        ("train_rerank.learning_rate=0", "train_rerank.learning_rate = 0: "),
        ("train_rerank.weight_decay=.inf", "train_rerank.weight_decay = inf: "),
        ("search.top_k=-1", "search.top_k = -1: "),
        ("search=null", "search = None: "),
        ("evaluate.split=2014", "evaluate.split = 2014: "),
    ],
)
def test_a_bad_value_is_named_with_its_key(override: str, start: str) -> None:
    assert complaint(None, override).startswith(f"--set: {start}")


def test_of_a_choice_of_types_all_are_named_and_the_key_is_as_written() -> None:
    message = complaint(None, "describe.globals.p=abc")
    assert message.startswith("--set: describe.globals.p = 'abc': ")
    assert "valid number" in message
    assert "'learned'" in message
    message = complaint(None, "describe.locals.stage=last")
    assert message.startswith("--set: describe.locals.stage = 'last': ")
    assert "'final'" in message


def test_a_mistake_is_blamed_on_where_it_was_made(tmp_path: Path) -> None:
    good, bad = write(tmp_path, "seed: 1\n"), tmp_path / "bad.yaml"
    bad.write_text("serch: {top_k: 3}\n")
    assert complaint(good, "serch.top_k=3").startswith("--set: unknown key serch")
    assert complaint(bad, "seed=3").startswith(f"{bad}: unknown key serch")
    bad.write_text("search: 5\n")
    assert complaint(bad, "search.top_k=3").startswith(f"{bad}: search = 5: ")


def test_parse_config_names_its_source() -> None:
    assert parse_config({"seed": 4}, source="the test").seed == 4
    with pytest.raises(UsageError, match=r"^the test: unknown key sead; did you mean seed\?$"):
        parse_config({"sead": 4}, source="the test")


# --- the model itself -------------------------------------------------------------------------------------------------


def test_a_configuration_cannot_be_changed() -> None:
    config = Config()
    with pytest.raises(ValidationError, match="frozen"):
        config.seed = 3  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        config.describe.image.size = 3  # type: ignore[misc]


def sections(model: type[BaseModel]) -> list[type[BaseModel]]:
    inner = [field.annotation for field in model.model_fields.values()]
    found = [kind for kind in inner if isinstance(kind, type) and issubclass(kind, BaseModel)]
    return [model, *(deeper for kind in found for deeper in sections(kind))]


def test_every_section_is_strict_and_explained() -> None:
    assert len(sections(Config)) > 10
    for section in sections(Config):
        assert section.model_config["extra"] == "forbid", section.__name__
        assert section.__doc__, section.__name__


def test_a_configuration_is_read_without_a_network() -> None:
    code = "import sys; from pipeline.config import load_config; load_config(); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_every_reranker_has_its_section() -> None:
    for name, kind in RERANKERS.items():
        assert type(Config().rerank.settings_of(name)) is kind.settings
