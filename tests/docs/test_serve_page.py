"""docs/serve.md: its server runs as shown, and its requests are answered by it."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from doc_commands import ROOT, commands, succeeds

PAGE = (ROOT / "docs" / "serve.md").read_text(encoding="utf-8")


def shown(program: str) -> list[list[str]]:
    """The lines of shell blocks that call a program, as words."""
    lines = "\n".join(re.findall(r"^```sh\n(.*?)^```", PAGE, re.M | re.S)).splitlines()
    return [shlex.split(line) for line in lines if line.startswith(program)]


def test_the_server_and_its_requests(home: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    extract = ["extract", "photos", "--set", "describe.image.size=96"]
    succeeds(home, "extract", str(ROOT / "cli.py"), *extract)
    _, plain, other = commands("docs/serve.md")[:3]
    assert (plain, other) == ("relook serve", "relook serve --index relook-index --port 8080")
    words = [*shlex.split(other)[1:-1], "0", "--set", "serve.rerankers=[superglobal]"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("RELOOK_TOKEN", None)
    server = subprocess.Popen(
        [sys.executable, str(ROOT / "cli.py"), *words], cwd=home, env=environment, stderr=subprocess.PIPE, text=True
    )
    assert server.stderr
    line = next(line for line in server.stderr if "serving" in line)
    address = re.findall(r"http://\S+", line)[0]
    try:
        requests = shown("curl")
        assert len(requests) == 3
        for request in requests:
            asked = [word.replace("http://127.0.0.1:8765", address) for word in request[1:]]
            done = subprocess.run(["curl", "-sSf", *asked], cwd=home, capture_output=True, text=True, check=True)
            documents = [json.loads(text) for text in done.stdout.splitlines()]
            assert not any("error" in document for document in documents)
        assert documents[0]["images"] == len(list((home / "photos").glob("*.jpg")))
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0


def test_a_command_that_listens_beyond_this_machine_needs_its_token(home: Path) -> None:
    (line,) = [words for words in shown("RELOOK_TOKEN") if "relook" in words]
    words = line[line.index("relook") + 1 :]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RELOOK_TOKEN": ""}
    done = subprocess.run(
        [sys.executable, str(ROOT / "cli.py"), *words],
        cwd=home,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "set the variable RELOOK_TOKEN" in done.stderr) == (2, True)


def test_the_requests_of_the_tables_exist() -> None:
    source = (ROOT / "pipeline" / "serve" / "routes.py").read_text(encoding="utf-8")
    named = re.findall(r"^\| `(?:GET|POST) (/\w+)[^.\w]", PAGE, re.M)
    assert len(named) >= 7
    for path in named:
        assert f'"{path}' in source, path
