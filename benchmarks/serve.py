"""The HTTP service beside the bare gallery: throughput, latency, refusals beyond the queue, memory.

    python benchmarks/serve.py --index INDEX --photos FOLDER [--seconds 30] [--clients 8]
    python benchmarks/serve.py --index INDEX --photos FOLDER --requests 10000

The server runs in a process of its own, as a user starts it, and so do the clients, which send the photos of the folder
in turn. Bare searches are `gallery.search(bytes)` in one process, by as many threads as there are clients. Both are
measured in turns, twice, so that a machine that gets slower meanwhile does not favour one; "CPU ms" is what a search
took of a core, which other processes do not lengthen. With --requests only the
memory of the server is measured, after a tenth of the requests and at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
SUFFIXES = {".jpg", ".jpeg", ".png"}
console = Console(width=140)


def main() -> None:
    """Measure, and print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--index", type=Path, required=True)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--queue", type=int, default=12)
    parser.add_argument("--requests", type=int)
    given = parser.parse_args()
    photos = sorted(path for path in given.photos.rglob("*") if path.suffix.lower() in SUFFIXES)[:64]
    if not photos:
        sys.exit(f"{given.photos}: has no photos")
    if given.requests:
        memory(given.index, photos, given.clients, given.requests)
    else:
        load(given.index, photos, given.clients, given.seconds, given.queue)


def load(index: Path, photos: list[Path], clients: int, seconds: float, queue: int) -> None:
    """Throughput beside the bare gallery, then twice as many clients as fit with a short queue."""
    rows: list[tuple[str, dict[str, Any]]] = []
    for turn in range(2):
        rows.append((f"gallery.search, {clients} threads", in_process(bare, index, photos, clients, seconds)))
        with Server(index) as server:
            found = server.load(photos, clients, seconds)
            rows.append((f"relook serve, {clients} clients", found))
        console.print(f"turn {turn + 1}: {rows[-1][1]['rate'] / rows[-2][1]['rate']:.1%} of the bare throughput")
    with Server(index, f"serve.queue={queue}") as server:
        found = server.load(photos, 2 * clients, seconds)
        rows.append((f"relook serve, {2 * clients} clients, queue of {queue}", found))
    table = Table("", "searches/s", "median ms", "p99 ms", "CPU ms", "codes")
    for name, row in rows:
        codes = ", ".join(f"{code}: {count}" for code, count in sorted(row["codes"].items()))
        figures = (f"{row['rate']:.2f}", *(f"{row[key]:.0f}" for key in ("median", "p99", "cpu")))
        table.add_row(name, *figures, codes)
    console.print(table)
    rates = [row["rate"] for _, row in rows[:4]]
    console.print(f"throughput: {(rates[1] + rates[3]) / (rates[0] + rates[2]):.1%} of the bare gallery")


def memory(index: Path, photos: list[Path], clients: int, requests: int) -> None:
    """Memory of the server after a tenth of the requests, and after all."""
    with Server(index) as server:
        in_process(generate, server.address, photos, clients, None, requests // 10)
        before = server.megabytes()
        found = in_process(generate, server.address, photos, clients, None, requests - requests // 10)
        after = server.megabytes()
    console.print(f"{requests:,} requests, codes {dict(found['codes'])}")
    console.print(f"memory: {before:.0f} MB after a tenth of them, {after:.0f} MB at the end")


class Server:
    """`relook serve` in a process of its own, for the length of a block."""

    def __init__(self, index: Path, *settings: str) -> None:
        words = [sys.executable, str(ROOT / "cli.py"), "serve", "--index", str(index), "--port", "0"]
        words += [word for setting in settings for word in ("--set", setting)]
        self._process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr
        said: list[str] = []
        for line in self._process.stderr:
            said.append(line)
            if " at http://" in line:
                self.address = line.split(" at ")[1].split(" ")[0]
                break
        else:
            sys.exit("".join(said))
        threading.Thread(target=self._process.stderr.read, daemon=True).start()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()

    def load(self, photos: list[Path], clients: int, seconds: float) -> dict[str, Any]:
        """What `generate` measures, and the milliseconds of a core that each search took of the server."""
        before = self._cpu_seconds()
        found = in_process(generate, self.address, photos, clients, seconds, None)
        return {**found, "cpu": 1000 * (self._cpu_seconds() - before) / (found["codes"][200] + 1)}

    def _cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def megabytes(self) -> float:
        """Resident memory."""
        text = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(text.split("VmRSS:")[1].split()[0]) / 1024


def in_process(target: Any, *arguments: Any) -> dict[str, Any]:
    """The result of a function that runs in a fresh process."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        found: dict[str, Any] = pool.apply(target, arguments)
    return found


def bare(index: Path, photos: list[Path], threads: int, seconds: float) -> dict[str, Any]:
    """`gallery.search(bytes)` by some threads."""
    import relook

    gallery = relook.open(index)
    data = [path.read_bytes() for path in photos]
    gallery.search(data[0])
    times: list[float] = []
    turns = itertools.count()
    end = time.monotonic() + seconds

    def work() -> None:
        while (started := time.monotonic()) < end:
            gallery.search(data[next(turns) % len(data)])
            times.append(time.monotonic() - started)

    started, before = time.monotonic(), time.process_time()
    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    found = summed(times, Counter({200: len(times)}), time.monotonic() - started)
    return {**found, "cpu": 1000 * (time.process_time() - before) / len(times)}


def generate(
    address: str, photos: list[Path], clients: int, seconds: float | None, requests: int | None
) -> dict[str, Any]:
    """Clients that send the next photo as soon as they have a response; after a refusal they wait as they are told."""
    return asyncio.run(_generate(address, [path.read_bytes() for path in photos], clients, seconds, requests))


async def _generate(
    address: str, data: list[bytes], clients: int, seconds: float | None, requests: int | None
) -> dict[str, Any]:
    times: list[float] = []
    codes: Counter[int] = Counter()
    turns = itertools.count()

    async def work(http: httpx.AsyncClient) -> None:
        while (turn := next(turns)) < (requests or sys.maxsize):
            started = time.monotonic()
            if seconds is not None and started > end:
                return
            response = await http.post("/search", files={"image": ("photo.jpg", data[turn % len(data)], "image/jpeg")})
            codes[response.status_code] += 1
            if response.status_code == 200:
                times.append(time.monotonic() - started)
            elif "retry-after" in response.headers:
                await asyncio.sleep(float(response.headers["retry-after"]))

    async with httpx.AsyncClient(base_url=address, timeout=300, trust_env=False) as http:
        await http.post("/search", files={"image": ("photo.jpg", data[0], "image/jpeg")})
        started = time.monotonic()
        end = started + (seconds or 0)
        await asyncio.gather(*(work(http) for _ in range(clients)))
    return summed(times, codes, time.monotonic() - started)


def summed(times: list[float], codes: Counter[int], seconds: float) -> dict[str, Any]:
    """Searches per second and latencies."""
    milliseconds = 1000 * np.array(times)
    return {
        "rate": len(times) / seconds,
        "median": float(np.median(milliseconds)),
        "p99": float(np.percentile(milliseconds, 99)),
        "codes": codes,
    }


if __name__ == "__main__":
    main()
