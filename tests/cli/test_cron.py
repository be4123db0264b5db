"""`relook reindex` as cron, systemd and Kubernetes start it: locks, signals, limits, summaries, and docs/cron.md."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from cli_helpers import ROOT, relook
from stores_helpers import content, make_index, make_items, start
from tiny import paint, tiny, tiny_config

from pipeline.errors import LockedError, RelookError
from pipeline.stages.reindex import reindex
from pipeline.stores import Index, IndexWriter
from pipeline.stores.index import lock

__all__ = ["tiny"]
PAGE = (ROOT / "docs" / "cron.md").read_text(encoding="utf-8")
TINY_MODEL = "{name: resnet18, weights: random, image: {size: 32}, locals: {count: 4, scales: [1.0], dimension: null}}"


def shown(name: str) -> str:
    """What docs/cron.md shows as this file."""
    found = re.search(rf"<!-- validated: {re.escape(name)} -->\n```\w+\n(.*?)^```", PAGE, re.M | re.S)
    assert found, name
    return found[1]


class TestExamples:
    def test_the_crontab_line(self) -> None:
        (line,) = shown("crontab").splitlines()
        *times, command = line.split(None, 5)
        assert len(times) == 5
        assert all(re.fullmatch(r"\*|\d+", field) for field in times)
        self.parses(command.split(" 2>>")[0].split()[1:])

    def test_the_units(self, tmp_path: Path) -> None:
        for name in ("relook-reindex.service", "relook-reindex.timer"):
            (tmp_path / name).write_text(shown(name).replace("/srv/relook/venv/bin/relook", "/bin/true"))
        if shutil.which("systemd-analyze"):
            units = [str(tmp_path / name) for name in ("relook-reindex.service", "relook-reindex.timer")]
            done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
            ours = [line for line in done.stderr.splitlines() if "relook" in line]
            assert (done.returncode, ours) == (0, []), done.stderr
        (command,) = re.findall(r"^ExecStart=(.*)$", shown("relook-reindex.service"), re.M)
        self.parses(command.split()[1:])

    def test_the_job(self, tmp_path: Path) -> None:
        job = yaml.safe_load(shown("cronjob.yaml"))
        kubernetes_validate.validate(job, "1.31", strict=True)
        assert (job["apiVersion"], job["kind"], job["spec"]["concurrencyPolicy"]) == ("batch/v1", "CronJob", "Forbid")
        spec = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        assert spec["restartPolicy"] in ("Never", "OnFailure")
        (container,) = spec["containers"]
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in spec["volumes"]}
        self.parses(container["args"])

    def parses(self, words: list[str]) -> None:
        """The flags exist: the command gets as far as reading its configuration."""
        done = relook(*words)
        assert done.returncode == 2
        assert "cannot read the configuration" in done.stderr


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for number in range(6):
        paint(tmp_path / "photos" / f"{number}.png", number)
    values = f"index: {tmp_path}/index\ncatalog: {{images: {tmp_path}/photos}}\ndescribe: {TINY_MODEL}\n"
    (tmp_path / "prod.yaml").write_text(values + "extract: {part_size: 2, workers: 1, batch_size: 1}\n")
    return tmp_path


def last(done: Any) -> dict[str, Any]:
    """The summary of a run that logs JSON: every line is an object, this is the last."""
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert all("time" in line and "level" in line for line in lines)
    return lines[-1]


def test_a_run_its_summary_its_metrics_and_one_that_is_stopped(home: Path) -> None:
    metrics = home / "relook.prom"
    arguments = ("reindex", "--config", home / "prod.yaml", "--metrics", metrics)
    with IndexWriter(home / "index"):
        done = relook(*arguments, "--log-json")
        assert (done.returncode, last(done)["outcome"], last(done)["exit_code"]) == (75, "failed", 75)
        assert f"pid {os.getpid()} on " in last(done)["error"]
    assert 'relook_last_run_exit_code{verb="reindex"} 75.0' in metrics.read_text()
    done = relook(*arguments, "--timeout", "0s")
    assert done.returncode == 0
    assert "outcome stopped" in done.stderr.splitlines()[-1]
    done = relook(*arguments, "--log-json")
    assert done.returncode == 0, done.stderr
    assert (last(done)["outcome"], last(done)["added"], done.stdout) == ("done", 6, "")
    text = metrics.read_text()
    assert 'relook_last_run_success{verb="reindex"} 1.0\n' in text
    assert 'relook_last_run_images{verb="reindex"} 6.0\n' in text
    for line in text.splitlines():
        assert re.fullmatch(r'# (HELP|TYPE) relook_\w+ .+|relook_\w+\{verb="reindex"\} [\d.e+]+', line)
    latest = json.loads((home / "index" / "runs" / "latest.json").read_text())
    assert (latest["verb"], latest["outcome"], latest["images"]) == ("reindex", "done", 6)
    done = relook(*arguments, "--json")
    document = json.loads(done.stdout)
    assert (document["added"], document["equal"], document["outcome"]) == (0, 6, "done")
    assert done.stderr.splitlines()[-1].startswith("relook reindex: outcome done")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_what_was_begun(home: Path, number: signal.Signals) -> None:
    for seed in range(400):
        paint(home / "photos" / f"{seed}.png", seed)
    command = [sys.executable, str(ROOT / "cli.py"), "reindex", "--config", str(home / "prod.yaml"), "--log-json"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not list((home / "index" / "catalog").glob("part-*.parquet")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    _, said = process.communicate(timeout=120)
    summary = json.loads(said.splitlines()[-1])
    assert (process.returncode, summary["outcome"], summary["stopped"]) == (0, "stopped", number.name), said
    index = Index(home / "index")
    assert index.verify() == []
    assert 0 < len(index.records) == summary["added"] < 400
    assert not index.manifest.complete


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(number: signal.Signals) -> None:
    code = (
        "import signal; from pipeline.cli.unattended import UnattendedRun; from pipeline.workflow.stop import Stop\n"
        "stop = Stop()\n"
        "with UnattendedRun('reindex', stop, True, None).around():\n"
        f"    signal.raise_signal({int(number)}); print(stop.reason, flush=True); signal.raise_signal({int(number)})\n"
        "    print('went on')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.stdout == f"{number.name}\n"
    assert done.returncode == -number, done.stderr


def test_a_killed_command_goes_on_where_it_was(home: Path) -> None:
    """With a network, whose descriptors are those of a run that nobody killed, byte for byte."""
    arguments = ("reindex", "--config", home / "prod.yaml")
    assert relook(*arguments, "--index", home / "whole").returncode == 0
    assert relook(*arguments, RELOOK_KILL_AT="commit:3").returncode == -signal.SIGKILL
    index = Index(home / "index")
    assert (index.verify(), len(index.records), index.manifest.complete) == ([], 2, False)
    done = relook(*arguments, "--json")
    assert json.loads(done.stdout)["added"] == 4
    assert content(Index(home / "index")) == content(Index(home / "whole"))
    assert Index(home / "index").verify() == []


def other_host(directory: Path, beats: int) -> None:
    """A writer on another host, which does not share its lock with us."""
    values = {"pid": 1, "host": "elsewhere", "since": "2099-01-01T00:00:00+00:00", "token": "theirs"}
    (directory / ".lock-holder").write_text(json.dumps(values))

    def beat() -> None:
        for number in range(beats):
            time.sleep(0.05)
            os.utime(directory / ".lock-holder", ns=(number, number))

    threading.Thread(target=beat, daemon=True).start()


class TestLock:
    @pytest.fixture(autouse=True)
    def quick(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in {"BEAT": 0.05, "LEASE": 0.4, "LOOK": 0.02}.items():
            monkeypatch.setattr(lock, name, value)

    def test_another_host_that_lives_is_respected(self, tmp_path: Path) -> None:
        make_index(tmp_path)
        other_host(tmp_path, 40)
        with pytest.raises(LockedError, match="pid 1 on elsewhere since 2099"), IndexWriter(tmp_path):
            pass

    def test_another_host_that_died_is_replaced(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("INFO", logger="relook")
        make_index(tmp_path)
        other_host(tmp_path, 0)
        with IndexWriter(tmp_path) as writer:
            writer.add(*make_items(["x"], 3, [1]))
        assert "that run has died" in caplog.text
        assert not (tmp_path / ".lock-holder").exists()

    def test_who_lost_the_lock_writes_nothing_more(self, tmp_path: Path) -> None:
        make_index(tmp_path)
        before = content(Index(tmp_path))
        with IndexWriter(tmp_path) as writer:
            other_host(tmp_path, 0)
            with pytest.raises(LockedError, match="the lock was lost to pid 1 on elsewhere"):
                writer.add(*make_items(["x"], 3, [1]))
        assert content(Index(tmp_path)) == before
        assert (tmp_path / ".lock-holder").exists()  # it is theirs

    def test_a_drive_without_locks(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        make_index(tmp_path)

        def refuse(*arguments: Any) -> None:
            raise OSError(95, "Operation not supported")

        monkeypatch.setattr("pipeline.stores.index.lock.fcntl.flock", refuse)
        with IndexWriter(tmp_path), pytest.raises(LockedError), IndexWriter(tmp_path):
            pass
        with IndexWriter(tmp_path):
            pass


def hold(connection: Any, directory: Path) -> None:
    with IndexWriter(directory):
        connection.send("held")
        time.sleep(1)


@pytest.mark.usefixtures("tiny")
class TestHardTimes:
    @pytest.fixture
    def indexed(self, tmp_path: Path) -> Path:
        for number in range(6):
            paint(tmp_path / "photos" / f"{number}.png", number)
        reindex(tiny_config(tmp_path))
        return tmp_path

    def test_waiting_for_another_run(self, indexed: Path) -> None:
        process, connection = start(hold, indexed / "index")
        assert connection.recv() == "held"
        with pytest.raises(LockedError):
            reindex(tiny_config(indexed), wait=0.1)
        assert reindex(tiny_config(indexed), wait=60).outcome == "done"
        process.join()

    def test_a_full_disk(self, indexed: Path) -> None:
        before = content(Index(indexed / "index"))
        for number in range(6, 40):
            paint(indexed / "photos" / f"{number}.png", number)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        try:
            with pytest.raises(RelookError, match="cannot be written"):
                reindex(tiny_config(indexed))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert content(Index(indexed / "index")) == before
        assert reindex(tiny_config(indexed)).images == 40

    def test_an_index_that_may_only_be_read(self, indexed: Path) -> None:
        """As nobody, where we are root, who may write anywhere."""
        place = Path(tempfile.mkdtemp(prefix="relook-readonly-"))
        place.chmod(0o755)
        shutil.copytree(indexed / "index", place / "index")
        for path in [place / "index", *(place / "index").rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        code = (
            "import os, sys; from pathlib import Path; from pipeline.stores import Index, IndexWriter\n"
            "from pipeline.errors import RelookError\n"
            "if os.geteuid() == 0: os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
            "index = Path(sys.argv[1]); print(len(Index(index).records))\n"
            "try:\n    IndexWriter(index).__enter__()\nexcept RelookError as error:\n    print(error)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(place / "index")], capture_output=True, text=True, check=False, cwd=ROOT
        )
        read, said = done.stdout.splitlines()
        assert read == "6", done.stderr
        assert said == f"{place / 'index'}: cannot be written to (Permission denied)"
        for path in [place / "index", *(place / "index").rglob("*")]:
            path.chmod(0o755)
        shutil.rmtree(place)
