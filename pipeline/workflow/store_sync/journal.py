"""The journal of uploads: which parts of an index were sent to a service.

Beside the index, in uploads/STORE-PLACE.json. It saves comparisons and decides nothing: where the service's count
disagrees, the journal is cleared and everything is compared. Each share of an upload that is divided has a journal of
its own below uploads/shares/, since two processes must not write one file; the next whole upload takes them over.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from pipeline.files import write_bytes, write_errors
from pipeline.stores.index.manifest import Part


class Journal:
    """The parts that were sent to one place, and how many rows of each were deleted at that time.

    Args:
        directory: the index directory.
        kind: of the store.
        place: the service and the namespace of this model.
        share: "2-of-3" of an upload that is divided; None: of the whole.
    """

    def __init__(self, directory: Path, kind: str, place: str, share: str | None = None) -> None:
        digest = hashlib.sha256(place.encode()).hexdigest()[:12]
        folder, name = directory / "uploads", f"{kind}-{digest}"
        self._shares = (folder / "shares", f"{name}-*.json")
        self._file = folder / f"{name}.json" if share is None else folder / "shares" / f"{name}-{share}.json"
        self._place = place
        self._whole, self._parts, self._begun = self._read(self._file)

    def take_shares(self) -> None:
        """Know what the shares sent as well, until everything is sent or forgotten."""
        for file in self._share_files():
            _, parts, begun = self._read(file)
            self._parts, self._begun = parts | self._parts, begun | self._begun

    @property
    def empty(self) -> bool:
        """Whether nothing was sent, nor begun to be."""
        return not self._parts and not self._begun

    def known(self, parts: Iterable[Part]) -> list[Part]:
        """Those of `parts` that were sent; a part never changes, apart from the list of its deleted rows."""
        return [part for part in parts if part.name in self._parts]

    def shrunk(self, parts: Iterable[Part]) -> list[Part] | None:
        """Those of `parts` that have more deleted rows now than when they were sent.

        None: the place may have other vectors that the index lacks.
        """
        now = {part.name: part for part in parts}
        sent = {**self._begun, **self._parts}
        if not self._whole or not sent.keys() <= now.keys():
            return None
        return [now[name] for name, deleted in sent.items() if deleted < len(now[name].deleted)]

    def begin(self, part: Part) -> None:
        """This part is about to be sent."""
        self._write(self._whole, self._parts, {part.name: len(part.deleted)})

    def add(self, part: Part) -> None:
        """This part was sent."""
        self._write(self._whole, {**self._parts, part.name: len(part.deleted)}, {})

    def complete(self, parts: Iterable[Part]) -> None:
        """The place has these parts and nothing else."""
        self._write(True, {part.name: len(part.deleted) for part in parts}, {})
        self._remove_shares()

    def forget(self) -> None:
        """Clear the journal: the place may have anything."""
        self._write(False, {}, {})
        self._remove_shares()

    def _share_files(self) -> list[Path]:
        folder, pattern = self._shares
        return sorted(folder.glob(pattern))

    def _remove_shares(self) -> None:
        for file in self._share_files():
            with write_errors(file):
                file.unlink(missing_ok=True)

    def _read(self, file: Path) -> tuple[bool, dict[str, int], dict[str, int]]:
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
            parts, begun = ({str(name): int(n) for name, n in values[key].items()} for key in ("parts", "begun"))
            if values["place"] == self._place:
                return values["whole"] is True, parts, begun
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass  # none yet, or damaged: everything is compared
        return False, {}, {}

    def _write(self, whole: bool, parts: dict[str, int], begun: dict[str, int]) -> None:
        self._whole, self._parts, self._begun = whole, parts, begun
        content = {"place": self._place, "whole": whole, "parts": parts, "begun": begun}
        with write_errors(self._file):
            write_bytes(self._file, json.dumps(content, indent=1).encode())
