"""The veto file: groups that a person looked at and refused.

A line is the id of an image; every group with that image teaches nothing. A group keeps its images when photos are
added, so a veto holds for later runs too. Empty lines and those that begin with `# ` are skipped.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import RelookError


def read_veto(path: Path) -> list[str]:
    """The ids, in the order of the file. Raises RelookError when it cannot be read."""
    try:
        lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError as error:
        raise RelookError(f"{path}: cannot read the veto file ({error.strerror})") from None
    return [line.strip() for line in lines if line.strip() and not line.startswith("# ")]
