"""Tables of random bytes, and the check that each is read as Python's strict csv reads it, or refused in one line.

Used by the tests of the catalog; `python tests/support/any_csv.py SECONDS [SEED]` runs it for longer and counts.
"""

from __future__ import annotations

import codecs
import csv
import io
import random
import re
import sys
import tempfile
import time
from pathlib import Path

from pipeline.catalog.strict_csv import StrictCsv
from pipeline.errors import RelookError

_PIECES = ['"', '""', ",", ";", "\t", "\n", "\r\n", "\r", " ", "a", "b.jpg", "path", "label", "sep=;", "\0", "é", "\\"]
_CELL = ["a", "b", "c.jpg", " ", ",", ";", '"', "\n", "é"]
_ENCODINGS = ["utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1"]


def any_csv(source: random.Random) -> bytes:
    """The bytes of a table: well-formed rows with some faults put in, or a mixture of what matters in CSV."""
    if source.random() < 0.2:
        text = "".join(source.choice(_PIECES) for _ in range(source.randint(0, 30)))
    else:
        text = _rows(source)
        for _ in range(source.choice([0, 0, 1, 1, 2, 4])):
            place = source.randint(0, len(text))
            text = text[:place] + source.choice([*_PIECES, ""]) + text[place + source.randint(0, 2) :]
    content = text.encode(source.choice(_ENCODINGS), "replace")
    if source.random() < 0.05:
        place = source.randint(0, len(content))
        content = content[:place] + source.randbytes(source.randint(1, 4)) + content[place:]
    return content


def check(content: bytes, file: Path) -> bool:
    """Whether a table is read. Raises AssertionError where it is not what Python reads, or refused otherwise."""
    file.write_bytes(content)
    refusal, rows = "", []
    try:
        table = StrictCsv(file, lambda header: "path" in header)
        rows = [list(cells) for cells in table]
    except RelookError as error:
        refusal = str(error)
    if refusal:
        assert refusal.startswith(str(file)), content
        assert "\n" not in refusal, content
        return False
    expected = _as_python_reads(content, table.separator)
    header = [name.strip() for name in expected[0]] if expected else []
    assert list(table.header) == header, content
    assert rows == [row[: len(header)] for row in expected[1:]], content
    assert not any(cell.strip() for row in expected[1:] for cell in row[len(header) :]), content
    return True


def _rows(source: random.Random) -> str:
    header = ["path", "label", "x"][: source.randint(1, 3)]
    rows = [
        ["".join(source.choices(_CELL, k=source.randint(0, 6))) for _ in header] for _ in range(source.randint(0, 5))
    ]
    stream = io.StringIO()
    quoting = source.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
    end = source.choice(["\n", "\r\n", "\r"])
    csv.writer(stream, delimiter=source.choice(",,,;\t"), quoting=quoting, lineterminator=end).writerows(
        [header, *rows]
    )
    return stream.getvalue()


def _as_python_reads(content: bytes, separator: str) -> list[list[str]]:
    """The rows of Python's own strict reader, without blank lines and without Excel's line `sep=`."""
    marks = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
    text = content.decode(next((name for mark, name in marks.items() if content.startswith(mark)), "utf-8-sig"))
    blank = r"(?:[^\S\r\n]*[\r\n]+)*"
    text = re.sub(rf'\A{blank}(?:"?sep=[^"\r\n]"?(?:[\r\n]+|\Z))?{blank}', "", text, flags=re.IGNORECASE)
    lines = io.StringIO(text, newline="")
    rows = csv.reader(lines, delimiter=separator, strict=True, skipinitialspace=separator != "\t")
    return [row for row in rows if len(row) > 1 or "".join(row).strip()]


def main(seconds: float, seed: int) -> None:
    """Check tables for some seconds, and print how many were read and refused."""
    source, counts, end = random.Random(seed), {True: 0, False: 0}, time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as folder:
        while time.monotonic() < end:
            counts[check(any_csv(source), Path(folder) / "m.csv")] += 1
    print(f"{sum(counts.values()):,} tables: {counts[True]:,} read, {counts[False]:,} refused")


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
