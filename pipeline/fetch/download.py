"""One file over HTTP, resumed where an earlier attempt or an earlier run was cut.

Below `fetcher`. What was received lies in `FILE.part` until all of it is there; `FILE.part.json` holds what the server
stated about it, so that nothing is appended to another version (RFC 9110: Range, If-Range, Content-Range).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import httpx

from pipeline.errors import RelookError
from pipeline.files import write_bytes, write_errors

_WAIT = 0.5  # seconds before the first repetition; each further one waits twice as long
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})

Progress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class _Version:
    """What distinguishes versions of a remote file, and whether all of this one was received."""

    url: str
    validator: str
    total: int | None
    whole: bool = False


class _CutError(Exception):
    """The connection ended before the file did."""


def download(client: httpx.Client, url: str, target: Path, attempts: int, progress: Progress) -> None:
    """Download `url` to `target`; its length is the one that the server states.

    Args:
        client: of httpx.
        url: an http or https address.
        target: a file; it appears when it is whole.
        attempts: how many attempts in a row may fail without a byte received.
        progress: called with the bytes received and the length of the file, or None where the server does not state it.

    Raises:
        RelookError: the server refuses, does not respond, or sends something else than it states; the disk is full.
    """
    part = target.with_name(f"{target.name}.part")
    failed = 0
    while not _is_whole(part, url):
        before = _size(part)
        try:
            _attempt(client, url, part, progress)
        except (_CutError, httpx.TransportError) as error:
            failed = 0 if _size(part) > before else failed + 1
            if failed >= attempts:
                raise RelookError(f"{url}: gave up after {failed} attempts ({_words(error)})") from None
            time.sleep(min(_WAIT * 2**failed, 30.0))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise RelookError(f"{url}: cannot be downloaded ({_words(error)})") from None
    with write_errors(target):
        part.replace(target)
        _note(part).unlink(missing_ok=True)


def remove_download(target: Path) -> None:
    """Remove `target` and what was received of it, so that the next download starts from the first byte."""
    part = target.with_name(f"{target.name}.part")
    for file in (target, part, _note(part)):
        file.unlink(missing_ok=True)


def _attempt(client: httpx.Client, url: str, part: Path, progress: Progress) -> None:
    version, have = _known(part, url)
    headers = {"Accept-Encoding": "identity"}
    if version is not None:
        headers |= {"Range": f"bytes={have}-", "If-Range": version.validator}
    with client.stream("GET", url, headers=headers) as response:
        if response.status_code in _AGAIN:
            raise _CutError(f"the server answers {response.status_code}")
        if response.status_code == 416:  # the part is not the beginning of the file any more
            _restart(part)
            raise _CutError("the file changed meanwhile")
        if response.status_code not in (200, 206):
            raise RelookError(f"{url}: the server answers {response.status_code} {response.reason_phrase}".rstrip())
        have, total = _place(response, url, have)
        _refuse_without_room(part, have, total)
        with write_errors(part):
            found = _Version(url, _validator(response), total)
            _write_note(part, found)
            with part.open("r+b" if have else "wb") as stream:
                stream.seek(have)
                for block in response.iter_raw():  # as it comes: larger blocks would be lost when it is cut
                    stream.write(block)
                    have += len(block)
                    progress(have, total)
                stream.flush()
                os.fsync(stream.fileno())
    if total is not None and have != total:
        if have > total:
            _restart(part)
        raise _CutError(f"{have} of {total} bytes received")
    with write_errors(part):
        _write_note(part, replace(found, whole=True))


def _is_whole(part: Path, url: str) -> bool:
    """Whether all was received, in this run or an earlier one that was killed before it could say so."""
    version = _read_note(part)
    if version is None or version.url != url or not part.exists():
        return False
    return version.whole or version.total == _size(part)


def _place(response: httpx.Response, url: str, have: int) -> tuple[int, int | None]:
    """Where the body belongs, and how long the whole file is."""
    if response.status_code == 206:
        match = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if match is None or int(match[1]) != have:
            raise RelookError(f"{url}: requested from byte {have}, the server sends something else")
        return have, None if match[2] == "*" else int(match[2])
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdigit() else None


def _known(part: Path, url: str) -> tuple[_Version | None, int]:
    """The version that the part is the beginning of, and its length; (None, 0) where it cannot be continued."""
    version, size = _read_note(part), _size(part)
    usable = version is not None and version.url == url and version.validator and size
    return (version, size) if usable else (None, 0)


def _read_note(part: Path) -> _Version | None:
    try:
        values: dict[str, Any] = json.loads(_note(part).read_text())
        return _Version(**values)
    except (OSError, ValueError, TypeError):
        return None


def _write_note(part: Path, version: _Version) -> None:
    write_bytes(_note(part), json.dumps(asdict(version)).encode())


def _validator(response: httpx.Response) -> str:
    """A strong entity tag, or the time of the last change; weak tags do not mean equal bytes."""
    tag = str(response.headers.get("ETag", ""))
    return tag if tag and not tag.startswith("W/") else str(response.headers.get("Last-Modified", ""))


def _refuse_without_room(part: Path, have: int, total: int | None) -> None:
    part.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(part.parent).free
    if total is not None and total - have > free:
        raise RelookError(f"{part.parent}: {total - have:,} bytes are missing, {free:,} are free")


def _restart(part: Path) -> None:
    with suppress(FileNotFoundError):
        part.unlink()
    _note(part).unlink(missing_ok=True)


def _note(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _size(part: Path) -> int:
    try:
        return part.stat().st_size
    except OSError:
        return 0


def _words(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
