"""Verbs in processes of their own, forked from one that has loaded everything: each can be killed, and is quick.

`python forked.py` reads one JSON job a line and answers with the process's id, then with its exit code.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

SUPPORT = Path(__file__).resolve().parent


class Forks:
    """The process that forks; use it as a context manager."""

    def __enter__(self) -> Forks:
        paths = os.pathsep.join([str(SUPPORT), str(SUPPORT.parents[1])])
        self._server = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        )
        return self

    def __exit__(self, *error: object) -> None:
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait(30)

    def start(self, verb: str, folder: Path, **job: Any) -> int:
        """Begin `verb` on a folder of `tiny_config`; returns the process's id."""
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps({"verb": verb, "folder": str(folder), **job}) + "\n")
        self._server.stdin.flush()
        return int(self._line())

    def end(self) -> int:
        """Wait for what was started; returns its exit code, negative for a signal."""
        return int(self._line())

    def run(self, verb: str, folder: Path, **job: Any) -> int:
        """Start and end. `kill_at` is a value of the variable of `pipeline.faults`."""
        self.start(verb, folder, **job)
        return self.end()

    def _line(self) -> str:
        assert self._server.stdout is not None
        line = self._server.stdout.readline()
        assert line, "the forking process has died"
        return line


def main() -> None:
    """Serve until stdin ends."""
    from tiny import tiny_config, use_tiny

    import pipeline.describe.describer  # what a run that describes imports: here once, not in every process
    import pipeline.describe.presets
    import pipeline.files.atomic_write
    import pipeline.stages.upload
    import pipeline.workflow.indexing.extraction
    import pipeline.workflow.model_loading
    from pipeline import faults
    from pipeline.config import Config
    from pipeline.errors import RelookError
    from pipeline.stages.compact import compact
    from pipeline.stages.extract import extract, extract_shard, join
    from pipeline.stages.gc import gc
    from pipeline.stages.reindex import reindex
    from pipeline.workflow.indexing.maintenance import rollback

    use_tiny()
    pipeline.files.atomic_write._flush = lambda path: None  # a kill, unlike a power cut, loses nothing that was written
    verbs: dict[str, Callable[[Config], Any]] = {
        "reindex": reindex,
        "extract": lambda config: extract(config, str(config.catalog.images)),
        "upload": pipeline.stages.upload.upload,
        "compact": compact,
        "gc": gc,
        "join": join,
        "rollback": rollback,
    }

    def work(job: dict[str, Any]) -> int:
        faults._asked = job.get("kill_at")
        config = tiny_config(Path(job["folder"]), job.get("size", 320), job.get("keypoints"))
        if "index" in job:
            config = config.model_copy(update={"index": Path(job["index"])})
        os.environ.update(job.get("environment", {}))
        store = config.store.model_copy(update={"kind": job.get("store", "table")})
        if "block" in job:
            pipeline.workflow.model_loading._BLOCK = job["block"]
            pipeline.workflow.model_loading._BLOCK_BATCHES = 1
        verbs["shard"] = lambda config: extract_shard(config, job["shard"])
        try:
            verbs[job["verb"]](config.model_copy(update={"store": store}))
        except RelookError as error:
            sys.stderr.write(f"{error}\n")
            return error.exit_code
        return 0

    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if child == 0:
            try:
                os._exit(work(job))
            except BaseException as error:
                sys.stderr.write(f"{type(error).__name__}: {error}\n")
            os._exit(99)
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()
        sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n")
        sys.stdout.flush()
    os._exit(0)  # taking down what was imported takes seconds


if __name__ == "__main__":
    main()
