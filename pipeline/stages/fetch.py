"""`fetch`: a published data set into a folder, downloaded from its official places or taken from what is here already.

Before extract, which reads the folder as NAME:FOLDER. Nothing else in relook downloads a data set. The
folder's `fetched.json` lists what was downloaded; run again, it resumes.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.catalog import load_catalog
from pipeline.catalog.registry import DATASETS
from pipeline.config import Config
from pipeline.errors import RelookError, unknown_name
from pipeline.fetch import SOURCES, Fetcher, Ledger, RemoteFile, find_local, folder_lock
from pipeline.workflow.progress import Reporter, Silent


@dataclass(frozen=True)
class FetchResult:
    """What a run brought.

    Attributes:
        source: what to hand to other verbs.
        images: photos that the data set's lists name.
        files: published files that are there now.
        downloaded, local: how many of them this run downloaded, or took from `--from`.
        bytes: of those two.
        unproved: how many of all have no published checksum; of these only length and archive were checked.
        seconds: of this run.
    """

    source: str
    images: int
    files: int
    downloaded: int
    local: int
    bytes: int
    unproved: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def fetch(
    config: Config,
    name: str,
    folder: Path,
    local: Path | None = None,
    first: int | None = None,
    reporter: Reporter | None = None,
) -> FetchResult:
    """Bring a data set.

    Args:
        config: `fetch` matters here.
        name: of the data set.
        folder: where it goes.
        local: a folder, or one archive, that holds published files; then nothing is downloaded.
        first: only so many of its archives, and all other files.
        reporter: told about the progress.

    Raises:
        UsageError: no such data set.
        LockedError: another run is fetching into the same folder.
        RelookError: a file cannot be had, is not what is published, or `local` lacks some that are not there yet.
    """
    started = time.monotonic()
    files = _files(name, first)
    with folder_lock(folder):
        return _fetch(config, name, folder, files, local, reporter or Silent(), started)


def _fetch(
    config: Config,
    name: str,
    folder: Path,
    files: list[RemoteFile],
    local: Path | None,
    reporter: Reporter,
    started: float,
) -> FetchResult:
    ledger = Ledger(folder)
    todo = [file for file in files if not _is_there(file, ledger, folder)]
    found = find_local(todo, local) if local is not None and todo else {}
    brought = []
    options = config.fetch.model_dump()
    with reporter.bar("fetch", len(todo), "files") as bar:
        fetcher = Fetcher(folder, report=lambda words: bar.advance(0, words), **options)
        with fetcher:
            for file in todo:
                if local is not None and file.url not in found:
                    continue
                brought.append(fetcher.fetch(file, found.get(file.url)))
                ledger.add(brought[-1].entry)
                bar.advance()
    _refuse_lacking(files, ledger, local)
    source = f"{name}:{folder}"
    return FetchResult(
        source=source,
        images=len(load_catalog(source)),
        files=len(files),
        downloaded=sum(item.downloaded for item in brought),
        local=sum(not item.downloaded for item in brought),
        bytes=sum(item.entry.bytes for item in brought),
        unproved=sum(ledger[file.url].checksum == "not published" for file in files),
        seconds=round(time.monotonic() - started, 2),
    )


def _files(name: str, first: int | None) -> list[RemoteFile]:
    if name not in SOURCES:
        if name in DATASETS:
            raise RelookError(f"{name}: is published nowhere; any folder of that layout is one")
        raise unknown_name("data set", name, SOURCES)
    files = SOURCES[name]
    if first is None:
        return files
    archives = [file for file in files if file.archive][:first]
    return [file for file in files if not file.archive or file in archives]


def _is_there(file: RemoteFile, ledger: Ledger, folder: Path) -> bool:
    if file.url not in ledger:
        return False
    return file.archive or (folder / file.target).is_file()


def _refuse_lacking(files: list[RemoteFile], ledger: Ledger, local: Path | None) -> None:
    lacking = [file.name for file in files if file.url not in ledger]
    if lacking:
        more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
        raise RelookError(
            f"{local}: {', '.join(lacking[:3])}{more} are still lacking; nothing was downloaded "
            "(name another --from, or leave it out to download)"
        )
