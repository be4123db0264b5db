"""The command line in processes that are forked from one which has loaded the libraries: quick, and each its own.

Nearly all of a short command's time is the import of torch, timm and pyarrow. `run` is `python cli.py ...` without it.
What is about the start of a process itself (imports, encodings, signals, environment) runs `cli.py` instead.

`python preloaded.py` reads one JSON job a line and writes each command's exit code.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import tempfile
import threading
import traceback
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# What commands import sooner or later, from the slowest on.
_LIBRARIES = (
    *("torch", "timm", "torchvision", "kornia.feature", "cv2", "h5py", "pyarrow.parquet", "pandas", "jinja2", "faiss"),
    *("scipy.stats", "httpx", "pinecone", "PIL.Image", "rich.table", "tensorboard", "pipeline.cli"),
)


class Preloaded:
    """The process that forks; it starts with the first command and ends with the tests."""

    def __init__(self) -> None:
        self._server: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()

    def run(self, words: list[str], cwd: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        """Run `relook` with `words`, or Python code after `-c`; `environment` is added to that of the tests."""
        with tempfile.TemporaryDirectory(prefix="relook-") as name, self._lock:
            out, err = Path(name) / "out", Path(name) / "err"
            job: dict[str, Any] = {"words": words, "cwd": str(cwd), "out": str(out), "err": str(err)}
            job["environment"] = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
            server = self._server = self._server or self._start()
            assert server.stdin is not None
            assert server.stdout is not None
            server.stdin.write(json.dumps(job) + "\n")
            server.stdin.flush()
            line = server.stdout.readline()
            assert line, "the process that forks commands has died"
            texts = (path.read_bytes().decode("utf-8", "replace") for path in (out, err))
            return subprocess.CompletedProcess(words, int(line), *texts)

    def _start(self) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENCV_FOR_THREADS_NUM": "1"}
        environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        command = [sys.executable, str(ROOT / "tests" / "support" / "preloaded.py")]
        server = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=tempfile.gettempdir(),
        )
        atexit.register(server.kill)
        return server


def main() -> None:
    """Serve until stdin ends."""
    for library in _LIBRARIES:
        __import__(library)
    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if child == 0:
            _become(job)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n")
        sys.stdout.flush()


def _become(job: dict[str, Any]) -> None:
    """Run one command, and end this process."""
    from pipeline.cli import main as command

    code: object = 99
    try:
        os.environ.clear()
        os.environ.update(job["environment"])
        os.chdir(job["cwd"])
        for descriptor, path in ((0, os.devnull), (1, job["out"]), (2, job["err"])):
            os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), descriptor)
        sys.stdin, sys.argv = open(0, encoding="utf-8", closefd=False), [str(ROOT / "cli.py"), *job["words"]]  # noqa: SIM115
        if job["words"][0] == "-c":
            exec(compile(job["words"][1], "<code>", "exec"), {"__name__": "__main__"})
            code = 0
        else:
            command()
    except SystemExit as error:
        code = error.code
    except BaseException:
        traceback.print_exc()
        code = 1
    if code is not None and not isinstance(code, int):
        print(code, file=sys.stderr)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)


PRELOADED = Preloaded()

if __name__ == "__main__":
    main()
