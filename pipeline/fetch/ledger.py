"""`fetched.json` in a data set's folder: what was fetched, from where, and what it was compared with.

Written after every file, so that a run after an interrupted one continues with the next file.
"""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from pipeline.errors import RelookError
from pipeline.files import exclusive_lock, write_bytes, write_errors

NAME = "fetched.json"


def folder_lock(folder: Path) -> AbstractContextManager[None]:
    """Locks the folder for one run. Raises LockedError while another one has it."""
    return exclusive_lock(folder / ".fetch.lock", f"{folder}: another run is fetching into it")


@dataclass(frozen=True)
class Entry:
    """One file.

    Attributes:
        url: its official address.
        came_from: the address, or the local file, that it was taken from.
        bytes, sha256: of the file as it came.
        checksum: what it was compared with, "md5:..." or "sha256:..."; "not published" where there was nothing.
        files: how many files an archive was unpacked to; 0 of a plain file.
    """

    url: str
    came_from: str
    bytes: int
    sha256: str
    checksum: str
    files: int


class Ledger:
    """The entries of a folder, by official address. Raises RelookError when the file there is damaged."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / NAME
        self._entries: dict[str, Entry] = {}
        if self._file.exists():
            self._entries = {entry.url: entry for entry in self._read()}

    def __contains__(self, url: str) -> bool:
        return url in self._entries

    def __getitem__(self, url: str) -> Entry:
        return self._entries[url]

    def add(self, entry: Entry) -> None:
        """Keep an entry, on the disk too."""
        self._entries[entry.url] = entry
        text = json.dumps({"files": [asdict(item) for item in self._entries.values()]}, indent=1)
        with write_errors(self._file):
            write_bytes(self._file, text.encode())

    def _read(self) -> list[Entry]:
        names = {field.name for field in fields(Entry)}
        try:
            content: Any = json.loads(self._file.read_text(encoding="utf-8"))
            return [Entry(**{name: item[name] for name in names}) for item in content["files"]]
        except (OSError, ValueError, KeyError, TypeError):
            raise RelookError(f"{self._file}: cannot be read; remove it to fetch everything again") from None
