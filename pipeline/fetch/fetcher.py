"""Fetches one published file into a data set's folder, from its address or a local copy: checked and unpacked.

The way into this room, used by the stage `fetch`. Archives that were downloaded are removed once they are unpacked;
local copies are only read.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

import httpx

from pipeline.errors import RelookError
from pipeline.fetch.archives import unpack
from pipeline.fetch.download import download, remove_download
from pipeline.fetch.ledger import Entry
from pipeline.fetch.sources import RemoteFile
from pipeline.files import atomic_path, sha256_of, write_errors

_DOWNLOADS = ".downloads"
NOT_PUBLISHED = "not published"
_LENGTHS = {"md5": 32, "sha256": 64}


@dataclass(frozen=True)
class FetchedFile:
    """A file that was fetched: its entry of the ledger, and whether it was downloaded."""

    entry: Entry
    downloaded: bool


class Fetcher:
    """Fetches files into one folder; use it as a context manager.

    Args:
        folder: of the data set.
        mirror: an address that is used in place of the official hosts, with their paths; None: the official ones.
        attempts: how many attempts in a row may fail for a file without a byte received.
        timeout: seconds without a byte after which a connection counts as cut.
        report: called with what is being done, in a few words.
    """

    def __init__(
        self, folder: Path, mirror: str | None, attempts: int, timeout: float, report: Callable[[str], None]
    ) -> None:
        self._folder, self._mirror, self._attempts, self._report = folder, mirror, attempts, report
        self._client = httpx.Client(timeout=timeout, follow_redirects=True)
        self._texts: dict[str, str] = {}

    def __enter__(self) -> Fetcher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def fetch(self, file: RemoteFile, local: Path | None = None) -> FetchedFile:
        """Fetch one file; from `local` where that is given, and then nothing is downloaded.

        Raises:
            RelookError: it cannot be downloaded or read, has another checksum than published, or is an archive that
                cannot be unpacked (see `unpack`).
        """
        if local is not None:
            checksum = file.checksum or _beside(local, file)
            return FetchedFile(self._use(file, local, str(local), checksum), downloaded=False)
        address = self._address(file.url)
        copy = self._folder / _DOWNLOADS / f"{urlsplit(file.url).path.strip('/').replace('/', '_')}"
        checksum = file.checksum or (self._published(file) if file.checksum_url else "")
        if not copy.exists():
            download(self._client, address, copy, self._attempts, self._progress_of(file.name))
        try:
            entry = self._use(file, copy, address, checksum)
        except RelookError:
            remove_download(copy)  # the same bytes would be wrong again
            raise
        with write_errors(copy):
            copy.unlink()
            if not any(copy.parent.iterdir()):
                copy.parent.rmdir()
        return FetchedFile(entry, downloaded=True)

    def _use(self, file: RemoteFile, copy: Path, came_from: str, checksum: str) -> Entry:
        """Compare a whole copy with its checksum and put it in its place."""
        self._report(f"{file.name}: checking")
        _refuse_other_content(copy, came_from, checksum)
        target, files = self._folder / file.target, 0
        if file.archive:
            files = unpack(copy, target, file.below, file.flat, lambda done: self._report(f"{file.name}: {done} files"))
        else:
            with write_errors(target), atomic_path(target) as temporary:
                shutil.copyfile(copy, temporary)
        return Entry(file.url, came_from, copy.stat().st_size, sha256_of(copy), checksum or NOT_PUBLISHED, files)

    def _address(self, url: str) -> str:
        if self._mirror is None:
            return url
        return f"{self._mirror.rstrip('/')}/{urlsplit(url).path.lstrip('/')}"

    def _published(self, file: RemoteFile) -> str:
        """The checksum in the text that is published for `file`."""
        address = self._address(file.checksum_url)
        if address not in self._texts:
            copy = self._folder / _DOWNLOADS / "checksums.txt"
            remove_download(copy)
            download(self._client, address, copy, self._attempts, lambda _have, _total: None)
            self._texts[address] = copy.read_text(encoding="utf-8", errors="replace")
            remove_download(copy)
        return _checksum_in(self._texts[address], file.name, address)

    def _progress_of(self, name: str) -> Callable[[int, int | None], None]:
        def progress(have: int, total: int | None) -> None:
            of = f" of {total / 1e6:.0f}" if total else ""
            self._report(f"{name}: {have / 1e6:.0f}{of} MB")

        return progress


def _beside(local: Path, file: RemoteFile) -> str:
    """The checksum in the published text, where that lies beside a local copy."""
    text = local.with_name(urlsplit(file.checksum_url).path.rsplit("/", 1)[-1]) if file.checksum_url else None
    if text is None or not text.is_file():
        return ""
    return _checksum_in(text.read_text(encoding="utf-8", errors="replace"), file.name, str(text))


def _checksum_in(text: str, name: str, where: str) -> str:
    """From lines "CHECKSUM NAME", as md5sum and sha256sum write them; NAME may be an address or a path."""
    for line in text.splitlines():
        words = line.split()
        if len(words) == 2 and words[1].lstrip("*").rsplit("/", 1)[-1] == name:
            for kind, length in _LENGTHS.items():
                if len(words[0]) == length and all(digit in "0123456789abcdef" for digit in words[0].lower()):
                    return f"{kind}:{words[0].lower()}"
    raise RelookError(f"{where}: has no checksum of {name}")


def _refuse_other_content(copy: Path, came_from: str, checksum: str) -> None:
    if not checksum:
        return
    kind, _, wanted = checksum.partition(":")
    with copy.open("rb") as stream:
        found = hashlib.file_digest(stream, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()
    if found != wanted:
        raise RelookError(f"{came_from}: its {kind} is {found}, published is {wanted}")
