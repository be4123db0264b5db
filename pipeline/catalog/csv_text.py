"""The text of a CSV file: its encoding by its first bytes, and why bytes are not text.

Below `strict_csv`. UTF-8 is expected; UTF-16 and UTF-32 are known by their byte order mark. Other encodings are
refused, because a wrong guess would change names and labels.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from pipeline.errors import RelookError

_MARKS = {  # the marks of UTF-32 before those of UTF-16, which they begin with
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_OTHER_FILES = {
    b"PK\x03\x04": "a zip archive or an Excel workbook; save it as CSV UTF-8",
    b"\xd0\xcf\x11\xe0": "an Excel workbook; save it as CSV UTF-8",
    b"\x1f\x8b": "compressed with gzip; unpack it with gunzip",
    b"\x28\xb5\x2f\xfd": "compressed with zstd; unpack it with unzstd",
    b"BZh": "compressed with bzip2; unpack it with bunzip2",
    b"\xfd7zXZ": "compressed with xz; unpack it with unxz",
    b"PAR1": "a Parquet file; let its name end in .parquet",
}


@contextmanager
def open_text(file: Path) -> Iterator[IO[str]]:
    """Open a file as text, with its line ends as they are.

    Raises:
        RelookError: it cannot be opened or, inside the block, its bytes are not of its encoding; the message names the
            line and the remedy.
    """
    try:
        encoding = _encoding_of(file)
        with file.open(encoding=encoding, newline="") as stream:
            yield stream
    except OSError as error:
        raise RelookError(f"{file}: cannot be read as CSV ({error.strerror or error})") from None
    except UnicodeDecodeError as error:
        raise RelookError(f"{file}{_undecodable(file, error)}") from None


def _encoding_of(file: Path) -> str:
    with file.open("rb") as stream:
        start = stream.read(8)
    other = next((what for magic, what in _OTHER_FILES.items() if start.startswith(magic)), None)
    if other is not None:
        raise RelookError(f"{file}: cannot be read as CSV (it is {other})")
    return next((name for mark, name in _MARKS.items() if start.startswith(mark)), "utf-8")


def _undecodable(file: Path, error: UnicodeDecodeError) -> str:
    """What is said of bytes that are not of their encoding, with the line of the first such byte."""
    if not error.encoding.startswith("utf-8"):
        return f": cannot be read as CSV (not {error.encoding.upper()[:6]}, which its byte order mark states)"
    with file.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                line.decode()
            except UnicodeDecodeError as first:
                return (
                    f", line {number}: cannot be read as CSV (byte 0x{line[first.start]:02x} is not UTF-8, perhaps the "
                    "file is of Windows-1252); save it as UTF-8"
                )
    return f": cannot be read as CSV ({error})"
