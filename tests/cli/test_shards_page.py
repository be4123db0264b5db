"""The job arrays of docs/scale.md: what they run parses, and what describes them is valid. The commands of the page are
run by tests/docs; here is what a shell or Kubernetes would make of the numbers of their jobs."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from cli_helpers import QUICK, document, draw, refused
from photos import ROOT

PAGE = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")


def shown(name: str) -> str:
    found = re.search(rf"<!-- validated: {re.escape(name)} -->\n```\w+\n(.*?)^```", PAGE, re.M | re.S)
    assert found, name
    return found[1]


def in_shell(script: str, **variables: str) -> list[str]:
    """What the words of a command are when a shell has read it."""
    done = subprocess.run(
        ["sh", "-c", script.replace("relook ", "printf '%s\\n' ", 1)],
        capture_output=True,
        text=True,
        env=variables,
        check=True,
    )
    return done.stdout.splitlines()


def test_slurm() -> None:
    first, second = re.findall(r"'(relook .*?)'", shown("slurm"), re.S)
    assert in_shell(first, SLURM_ARRAY_TASK_ID="3")[-2:] == ["--shard", "3/64"]
    subprocess.run(["sh", "-n", "-c", shown("slurm")], check=True)
    for command in (first, second):
        flags = [word for word in shlex.split(command) if word.startswith("--")]
        assert set(flags) <= {"--index", "--shard", "--join"}


def test_the_indexed_job() -> None:
    job = yaml.safe_load(shown("job-relook-extract.yaml"))
    kubernetes_validate.validate(job, "1.31", strict=True)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    (script,) = container["args"]
    shards = [in_shell(script, JOB_COMPLETION_INDEX=str(number))[-1] for number in (0, job["spec"]["completions"] - 1)]
    assert shards == ["1/64", "64/64"]


def test_cron() -> None:
    lines = [line for line in shown("crontab").splitlines() if not line.startswith("#")]
    assert len(lines) == 2
    for line in lines:
        *times, command = line.split(None, 5)
        assert len(times) == 5
        flags = [word for word in shlex.split(command) if word.startswith("--")]
        assert set(flags) <= {"--index", "--shard", "--join", "--quiet"}


def test_the_command_line(tmp_path: Path) -> None:
    for number in range(3):
        draw(tmp_path / "photos" / f"{number}.jpg", number, 0)
    photos, index = tmp_path / "photos", ("--index", tmp_path / "index")
    line = refused(1, "extract", *index, "--join")
    assert f"begin with: relook extract PHOTOS --index {tmp_path / 'index'} --shard 1/N" in line
    assert document("extract", photos, *index, *QUICK, "--shard", "1/2")["shard"] == "1/2"
    line = refused(1, "extract", *index, "--join")
    assert f"relook extract {photos} --index {tmp_path / 'index'} --shard 2/2" in line
    assert document("extract", photos, *index, "--shard", "2/2")["images"] in (0, 3)
    assert "the shards were begun with 96" in refused(
        2, "extract", photos, *index, "--shard", "2/2", "--set", "describe.image.size=64"
    )
    result = document("extract", *index, "--join")
    assert (result["images"], result["added"], result["failed"]) == (3, 3, 0)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--shard", "1/2", "--join"], "a shard describes"),
        (["photos", "--join"], "--join takes no photos"),
        (["photos", "--shard", "3/2"], "K must be from 1 to N"),
        (["--shard", "1/2"], "no photos are given"),
    ],
)
def test_wrong_usage(words: list[str], said: str) -> None:
    assert said in refused(2, "extract", *words)
