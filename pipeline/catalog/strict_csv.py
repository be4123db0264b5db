"""CSV read strictly: what Python's csv module would join, split or drop without an error is an error here.

Below `table_reader`, and below the import of vectors. Cells are separated by commas, semicolons or tabs, or by what
Excel's first line `sep=;` states; quotes are those of RFC 4180. Blank lines, and lines
of one empty cell, are passed over.
"""

from __future__ import annotations

import csv
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

from pipeline.catalog.csv_text import open_text
from pipeline.errors import RelookError

logger = logging.getLogger("relook")

# A longer cell is an error: most likely a quote was not closed. This is the csv module's own limit.
MOST_CHARACTERS = 131_072

_TOO_LONG = "field larger than field limit"  # what the csv module says
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
_SEPARATOR_LINE = re.compile(r'"?sep=([^"\r\n])"?[\r\n]*', re.IGNORECASE)
_LINE_END = re.compile(r"\r\n|\r|\n")
_DOUBLE_IT = 'or put the cell in quotes and write each quote in it twice ("")'


class StrictCsv:
    """An open CSV: its header, then its rows, each with exactly as many cells.

    Empty cells beyond the header at the end of a row are cut off. A column without a name has to be empty, unless it is
    the first one, where pandas writes row numbers.

    Attributes:
        header: the names of the columns without surrounding space; empty for a file without any.
        number: of the current row, from 1; neither the header nor blank lines count.
        line: the line of the file that the current row begins in, from 1.
    """

    def __init__(
        self, file: Path, recognises: Callable[[Sequence[str]], bool], most_characters: int = MOST_CHARACTERS
    ) -> None:
        """Open `file` and read its header.

        Args:
            file: the table.
            recognises: whether a header is the expected one; it decides which separator the file has.
            most_characters: of a cell.

        Raises:
            RelookError: the file cannot be read or is not text, its header has a name twice, or its separator is not
                clear.
        """
        self._file, self._recognises, self._most = file, recognises, most_characters
        self.number = self.line = 0
        self._lines_before = 0  # blank lines and `sep=` before the header, which the csv module does not see
        self._raw: list[str] = []  # the lines of the current row
        self._syntax = _Syntax(",")
        self._records = self._read()
        self.header: Sequence[str] = next(self._records, ())
        for place, name in enumerate(self.header):
            if name and name in self.header[:place]:
                raise RelookError(f"{file}: duplicate column {name!r} in its header; rename or remove one")
        self._unnamed = [place for place, name in enumerate(self.header) if not name and place]

    def __iter__(self) -> Iterator[list[str]]:
        """The cells of each row. Raises RelookError naming row, line and column of what is not strict CSV."""
        width, unnamed = len(self.header), self._unnamed
        for cells in self._records:
            self.number += 1
            if len(cells) != width:
                self._refuse_width(cells)
            if unnamed:
                self._refuse_unnamed(cells)
            if len(self._raw) > 1:
                self._refuse_swallowed(cells)
            yield cells

    @property
    def separator(self) -> str:
        """The character between two cells."""
        return self._syntax.separator

    @property
    def where(self) -> str:
        """The place of the current row, for messages."""
        return f"{self._file}, row {self.number} (line {self.line})"

    def _read(self) -> Iterator[list[str]]:
        """The header, then every row that is not blank."""
        if csv.field_size_limit() < self._most:
            csv.field_size_limit(self._most)
        with open_text(self._file) as stream:
            first, separator = self._first_line(stream)
            if first:
                self._syntax = _Syntax(separator)
                yield from self._split(self._lines(first, stream))

    def _split(self, lines: Iterator[str]) -> Iterator[list[str]]:
        raw, whole, header = self._raw, self._syntax.record.fullmatch, True
        reader = csv.reader(
            lines, delimiter=self._syntax.separator, strict=True, skipinitialspace=self._syntax.skips_spaces
        )
        while True:
            raw.clear()
            self.line = self._lines_before + reader.line_num + 1
            try:
                cells = next(reader, None)
            except csv.Error as error:
                raise RelookError(self._explain(header, str(error))) from None
            if cells is None:
                return
            text = raw[0] if len(raw) == 1 else "".join(raw)
            if '"' in text and whole(text) is None:
                raise RelookError(self._explain(header, ""))
            if len(text) > self._most and max(map(len, cells)) > self._most:
                raise RelookError(self._explain(header, _TOO_LONG))
            if len(cells) < 2 and not "".join(cells).strip():
                continue
            if header:
                cells, header = [name.strip() for name in cells], False
            yield cells

    def _first_line(self, stream: IO[str]) -> tuple[str, str]:
        """The first line that is neither blank nor `sep=`, "" for none, and the separator of cells."""
        stated = ""
        for line in stream:
            self._refuse_nul(line, self._lines_before + 1)
            match = None if stated else _SEPARATOR_LINE.fullmatch(line)
            if match is not None:
                stated = match[1]
            elif line.strip():
                separator = stated or self._separator_of(line)
                if separator != ",":
                    logger.info("%s: cells are separated by %s", self._file, _SEPARATORS.get(separator, separator))
                return line, separator
            self._lines_before += 1
        return "", ","

    def _separator_of(self, header: str) -> str:
        present = [separator for separator in _SEPARATORS if separator in header]
        fitting = [separator for separator in present if self._recognises(_Syntax(separator).names(header))]
        if len(fitting) > 1:
            raise RelookError(
                f"{self._file}, line {self._lines_before + 1}: the header may be separated by "
                f"{' or '.join(_SEPARATORS[one] for one in fitting)}; use only one of them"
            )
        return fitting[0] if fitting else present[0] if len(present) == 1 else ","

    def _lines(self, first: str, stream: IO[str]) -> Iterator[str]:
        raw = self._raw
        raw.append(first)
        yield first
        for line in stream:
            raw.append(line)
            if "\0" in line:
                self._refuse_nul(line, self.line + len(raw) - 1)
            yield line

    def _refuse_nul(self, line: str, number: int) -> None:
        if "\0" in line:
            raise RelookError(
                f"{self._file}, line {number}: cannot be read as CSV (it has a NUL byte, as UTF-16 without a byte "
                "order mark does); save it as UTF-8"
            )

    def _refuse_width(self, cells: list[str]) -> None:
        """Refuse a row with fewer cells than the header, or with more that are not empty; cut empty ones off."""
        width = len(self.header)
        found = f"{self.where}: {len(cells)} {'cell' if len(cells) == 1 else 'cells'}, the header has {width}"
        if len(cells) < width:
            raise RelookError(
                f"{found}: none for column {self._name(len(cells))}; write the separator of empty cells too"
            )
        for place in range(width, len(cells)):
            if cells[place].strip():
                raise RelookError(
                    f"{found}: cell {place + 1} is {_short(cells[place])}, after column {self._name(width - 1)}; put a "
                    "cell that holds the separator in quotes"
                )
        del cells[width:]

    def _refuse_unnamed(self, cells: Sequence[str]) -> None:
        for place in self._unnamed:
            if cells[place].strip():
                raise RelookError(
                    f"{self.where}: column {place + 1} is {_short(cells[place])} and has no name in the header; name "
                    "it, or put a cell that holds the separator in quotes"
                )

    def _refuse_swallowed(self, cells: Sequence[str]) -> None:
        """Refuse a quoted cell that reads as rows, line by line: its quote was most likely closed too late."""
        last, separator = len(self.header) - 1, self._syntax.separator
        for place, cell in enumerate(cells):
            found = [line.count(separator) for line in _LINE_END.split(cell)]
            if len(found) > 1 and found == [last - place, *[last] * (len(found) - 2), place]:
                raise RelookError(
                    f"{self.where}: column {self._name(place)}: the quoted cell has {len(found)} lines that read as "
                    f"rows; close its quote in line {self.line}, or write the table as Parquet"
                )

    def _explain(self, header: bool, reason: str) -> str:
        """The message for a row that is not well formed: its first cell that is not, and the remedy."""
        self.number += not header
        text = "".join(self._raw)
        place, rest = self._syntax.first_bad(text)
        where = f"{self._file}, line {self.line}" if header else self.where
        where = f"{where}: column {place + 1 if header else self._name(place)}"
        closed = self._syntax.quoted.match(rest)
        if _TOO_LONG in reason and ('"' not in rest or closed is not None):
            return f"{where}: a cell has more than {self._most:,} characters; was a quote never closed?"
        if not rest.lstrip(" ").startswith('"'):
            if '"' not in rest:
                return f"{where}: cannot be read as CSV ({reason})"
            return f"{where}: a quote inside a cell that begins without one, {_short(rest)}; remove it, {_DOUBLE_IT}"
        if closed is None or _LINE_END.search(closed[0]):
            return f"{where}: a quote is not closed in its line, {_short(rest)}; close it, {_DOUBLE_IT}"
        return f"{where}: text after the closing quote, {_short(rest)}; remove it, {_DOUBLE_IT}"

    def _name(self, place: int) -> str:
        return repr(self.header[place]) if place < len(self.header) and self.header[place] else str(place + 1)


class _Syntax:
    """What is well formed with a separator, as patterns that take time linear in the text."""

    def __init__(self, separator: str) -> None:
        self.separator = separator
        self.skips_spaces = separator != "\t"
        comma = re.escape(separator)
        quoted = (" *" if self.skips_spaces else "") + '"(?:[^"]++|"")*+"'
        cell = rf'(?:{quoted}|[^"{comma}\r\n]*+)(?={comma}|[\r\n]|\Z)'
        self.quoted = re.compile(quoted)
        self.record = re.compile(rf"{cell}(?:{comma}{cell})*[\r\n]*")
        self._cell = re.compile(cell + comma)

    def names(self, line: str) -> list[str]:
        """The cells of one line without surrounding space, whether or not they are well formed."""
        cells = next(csv.reader([line], delimiter=self.separator, skipinitialspace=self.skips_spaces), [])
        return [name.strip() for name in cells]

    def first_bad(self, text: str) -> tuple[int, str]:
        """How many well-formed cells a row begins with, and the text after them."""
        place = start = 0
        while (match := self._cell.match(text, start)) is not None:
            place, start = place + 1, match.end()
        return place, text[start:]


def _short(text: str) -> str:
    text = text.rstrip("\r\n")
    return repr(text if len(text) <= 40 else f"{text[:37]}...")
