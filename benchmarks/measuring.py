"""What the scripts share: functions and processes that are measured by turns, and figures as JSON.

`python -m benchmarks` gathers what `write_json` wrote. A claim is one line of docs/performance.md: what was before (or
what stands beside), what is now, and what the machine allows, measured in one run.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Taken:
    """The least that some runs took: seconds, and CPU seconds of all threads."""

    seconds: float
    cpu: float


@dataclass(frozen=True)
class Process:
    """What a process took, its peak of resident memory in MB, and what it printed."""

    seconds: float
    cpu: float
    peak_mb: float
    output: str


@dataclass(frozen=True)
class Claim:
    """One figure. `before` and `limit` are None where there is none; `beside` says what `before` is, if not relook."""

    what: str
    unit: str
    after: float
    before: float | None = None
    limit: float | None = None
    beside: str = ""


def take_turns(functions: Mapping[str, Callable[[], Any]], repeat: int) -> dict[str, Taken]:
    """The best of some runs of each, one after the other so that all meet the same neighbours."""
    best = {name: Taken(float("inf"), float("inf")) for name in functions}
    for _ in range(repeat):
        for name, function in functions.items():
            started, used = time.perf_counter(), time.process_time()
            function()
            seconds, cpu = time.perf_counter() - started, time.process_time() - used
            best[name] = Taken(min(best[name].seconds, seconds), min(best[name].cpu, cpu))
    return best


# A process inherits the peak of the one that starts it, so a small one stands between: a test's may hold a gigabyte.
_BETWEEN = """import json, resource, subprocess, sys
code = subprocess.call(sys.argv[2:])
used = resource.getrusage(resource.RUSAGE_CHILDREN)
with open(sys.argv[1], "w") as file:
    json.dump([used.ru_utime + used.ru_stime, used.ru_maxrss], file)
sys.exit(code)
"""


def run_process(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Process:
    """Run a command to its end. Raises SystemExit where it fails."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "used.json"
        between = [sys.executable, "-S", "-c", _BETWEEN, str(file), *command]
        done = subprocess.run(
            between, stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, **(environment or {})}, check=False
        )
        seconds = time.perf_counter() - started
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}: failed")
        cpu, peak = json.loads(file.read_text())
    return Process(seconds, cpu, peak * (1 if sys.platform == "darwin" else 1024) / 1e6, done.stdout)


def relook(*words: str) -> list[str]:
    """The command line of this checkout."""
    return [sys.executable, str(ROOT / "cli.py"), *words]


def write_json(path: Path | None, claims: Sequence[Claim], **details: Any) -> None:
    """Write the figures of a script, if a file is given: `claims`, the machine, and whatever else it measured."""
    if path is None:
        return
    machine = {"cores": os.cpu_count(), "processor": platform.machine(), "load": os.getloadavg()[0]}
    document = {"claims": [asdict(claim) for claim in claims], "machine": machine, **details}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
