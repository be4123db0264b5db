"""Dockerfile and compose.yaml: their rules, and that the commands of the containers exist. No engine is needed."""

from __future__ import annotations

import json
import re
import shlex
import time
from pathlib import Path
from typing import Any

import yaml
from cli_helpers import relook
from photos import ROOT

Instruction = tuple[str, str]


def instructions() -> list[Instruction]:
    """The instructions of the Dockerfile, continued lines joined."""
    text = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines]


def last(name: str) -> str:
    return [value for kind, value in instructions() if kind == name][-1]


def services() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    found: dict[str, Any] = document["services"]
    return found


def parses(tmp_path: Path, words: list[str]) -> None:
    """The flags exist: the command gets as far as reading its configuration."""
    done = relook(*words, "--config", tmp_path / "none.yaml")
    assert (done.returncode, "cannot read the configuration" in done.stderr) == (2, True), done.stderr


class TestDockerfile:
    def test_stages_users_and_sources(self) -> None:
        found = instructions()
        stages = [value for kind, value in found if kind == "FROM"]
        assert len(stages) == 2
        assert all(re.match(r"[\w./-]+:[\w.-]+", stage) and ":latest" not in stage for stage in stages)
        final = found[max(row for row, (kind, _) in enumerate(found) if kind == "FROM") :]
        assert not any("pip install" in value for kind, value in final if kind == "RUN")
        assert last("USER") == "10001:10001"
        names = [kind for kind, _ in final]
        assert names.index("USER") < names.index("ENTRYPOINT")
        assert any("whl/cpu" in value for kind, value in found if kind == "RUN")
        for kind, value in found:
            assert kind != "ADD"
            if kind == "COPY" and not value.startswith("--from"):
                for source in value.split()[:-1]:
                    assert (ROOT / source).exists(), source

    def test_what_is_copied_is_not_ignored(self) -> None:
        kept = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.M)
        sources = [value.split()[:-1] for kind, value in instructions() if kind == "COPY" and "--from" not in value]
        assert {source for group in sources for source in group} == set(kept)

    def test_its_command_and_its_health(self, tmp_path: Path) -> None:
        assert json.loads(last("ENTRYPOINT")) == ["relook"]
        parses(tmp_path, json.loads(last("CMD")))
        check = last("HEALTHCHECK")
        assert "/readyz" in check
        program = json.loads(check.split("CMD ", 1)[1])
        compile(program[-1], "HEALTHCHECK", "exec")


class TestCompose:
    def test_every_service_is_confined(self) -> None:
        for name, service in services().items():
            assert service["read_only"] is True, name
            assert service["cap_drop"] == ["ALL"], name
            assert service["security_opt"] == ["no-new-privileges:true"], name
            assert any(volume.endswith(":/photos:ro") for volume in service["volumes"]), name
            assert not service.get("privileged"), name

    def test_the_page_is_reached_from_this_machine_with_a_token(self, tmp_path: Path) -> None:
        serve = services()["serve"]
        assert serve["ports"] == ["127.0.0.1:8765:8765"]
        assert "RELOOK_TOKEN" in serve["environment"]
        parses(tmp_path, serve["command"])
        parses(tmp_path, services()["index"]["command"])

    def test_every_night(self, tmp_path: Path) -> None:
        (script,) = services()["nightly"]["command"]
        script = script.replace("$$", "$")
        (line,) = re.findall(r"^\s*(relook .*?) \|\| :$", script, re.M)
        parses(tmp_path, shlex.split(line)[1:])
        (formula,) = re.findall(r"sleep \$\(\( (.*) \)\)", script)
        for now in (int(time.time()), 1_700_000_000, 1_700_006_400):
            seconds = eval(formula, {"now": now})
            assert 0 < seconds <= 86400
            assert (now + seconds) % 86400 == 2 * 3600 + 15 * 60
