"""Reports of runs: one JSON file per run that changed the index, and `latest.json` for who watches.

Written by the index writer, read by people and by whatever monitors a nightly run.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.files import write_bytes, write_errors

LATEST = "runs/latest.json"
# So many reports are kept, the latest ones by their names: a nightly run must not fill a folder over the years.
KEPT = 100

_NAME = re.compile(r"\d{8}T\d{6}-[a-z-]+-[0-9a-f]{4}\.json")


def write_report(directory: Path, verb: str, report: Mapping[str, Any], *, changed: bool) -> None:
    """Keep a report as the latest one and, where the run `changed` the index, as runs/<time>-<verb>-<random>.json."""
    now = datetime.now(UTC)
    content = json.dumps({"verb": verb, "time": now.isoformat(), **report}, indent=1, ensure_ascii=False).encode()
    runs = directory / "runs"
    with write_errors(runs):
        if changed:
            write_bytes(runs / f"{now:%Y%m%dT%H%M%S}-{verb}-{secrets.token_hex(2)}.json", content)
            for name in sorted(path.name for path in runs.iterdir() if _NAME.fullmatch(path.name))[:-KEPT]:
                (runs / name).unlink()
        write_bytes(directory / LATEST, content)
