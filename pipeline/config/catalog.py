"""The section `catalog`: which images exist, and what of a folder is left out.

Read by the stages that walk a folder or read a manifest.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from pipeline.config.paths import SOURCE
from pipeline.settings import Section

# What operating systems, network drives and photo software keep beside photos: thumbnails, deleted files, snapshots.
EXCLUDE = (
    ".*",  # hidden ones: .thumbnails, .Trash-1000, ._IMG.jpg, .AppleDouble, .dtrash, .@__thumb
    "@eaDir",
    "@Recycle",
    "@Recently-Snapshot",
    "@tmp",
    "#recycle",
    "#snapshot",
    "$RECYCLE.BIN",
    "RECYCLER",
    "System Volume Information",
    "lost+found",
    "__MACOSX",
    "Network Trash Folder",
    "Temporary Items",
    "*.lrdata",
    "Thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
)


class CatalogConfig(Section):
    """Which images exist."""

    images: Annotated[str | None, SOURCE] = Field(
        None, description="a folder, a manifest or NAME:FOLDER; --images overrides it"
    )
    labels: Literal["none", "folder"] = Field(
        "none", description="labels of a folder: none, or the name of the parent folder"
    )
    labels_file: Path | None = Field(
        None, description="a table path,label whose labels replace a folder's; photos without a row keep theirs"
    )
    outside: Literal["refuse", "allow"] = Field(
        "refuse", description="paths of a manifest that lead out of its own folder: an absolute one, or one with .."
    )
    exclude: tuple[Annotated[str, Field(min_length=1)], ...] | None = Field(
        EXCLUDE,
        description="names of files and folders that are left out of a folder, in upper or lower case, with * and ?; "
        "with a / the path below the folder; null: none",
    )

    @property
    def options(self) -> dict[str, Any]:
        """How any source is read, as keywords for `load_catalog`."""
        return {"labels": self.labels, "outside": self.outside, "exclude": self.exclude}
