"""Run the scripts whose claims are in docs/performance.md, one after the other, and write the page from their figures.

    python -m benchmarks [--only search growth] [--quick]
    python -m benchmarks --page

Each script writes `benchmarks/results/NAME.json` (`measuring.write_json`); figures that are not measured again stay.
`--page` measures nothing. `--quick` uses sizes that take minutes.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

from benchmarks.performance_page import RESULTS, write_page

ROOT = RESULTS.parents[1]
# Arguments of each script, in full and with --quick; two runs of one script have names of their own.
SUITE: dict[str, tuple[str, str, str]] = {
    "search": ("search.py", "--only exact --dimensions 512 2048 --sizes 100000", "--only exact --sizes 20000"),
    "locals": ("local_reads.py", "", "--photos 20000"),
    "many-locals": ("local_reads.py", "--photos 6000 --part 64 --count 1000", "--photos 1000 --part 32 --count 1000"),
    "extract": ("extract.py", "--large 1000", "--photos 16"),
    "decode": ("decode.py", "", "--mosaics 4"),
    "runtimes": ("runtimes.py", "", "--photos 8"),
    "rerank": ("rerank.py", "--bfloat16", "--only superglobal --pairs 2"),
    "duplicates": ("duplicates.py", "", "--images 5000"),
    "growth": ("growth.py", "--sizes 1000 10000 100000 1000000", "--sizes 1000 4000"),
}


def main() -> None:
    """Measure, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(SUITE), default=list(SUITE))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--page", action="store_true", help="write the page from the figures that are there")
    options = parser.parse_args()
    for name in () if options.page else options.only:
        script, full, quick = SUITE[name]
        words = (quick if options.quick else full).split()
        print(f"== {name}", flush=True)
        command = [sys.executable, str(ROOT / "benchmarks" / script), *words, "--json", str(RESULTS / f"{name}.json")]
        if subprocess.run(command, cwd=ROOT).returncode:
            raise SystemExit(f"{name}: failed; the page is as it was")
    write_page(list(SUITE))


if __name__ == "__main__":
    main()
