"""Generations that can be returned to, and what is collected because none of them needs it.

Used by the index writer. A run that ends well leaves a complete generation; its manifest is copied to `generations/`
before the next commit takes its place. Files that no kept manifest names are leftovers of killed or earlier runs.
"""

from __future__ import annotations

import logging
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import RelookError
from pipeline.faults import fault_point
from pipeline.files import TEMPORARY, write_errors
from pipeline.stores.index.carried_describer import describer_files
from pipeline.stores.index.lock import HOLDER
from pipeline.stores.index.manifest import NAME, STAGED, IndexManifest, PartFile, as_bytes, read_manifest
from pipeline.stores.index.part_files import write_file

logger = logging.getLogger("relook")

_PART = r"part-\d{6,}-[0-9a-f]{6,12}\.(parquet|csv|h5)"
_TEMPORARY = rf"\.\d+{re.escape(TEMPORARY)}"
# Names of files that a killed writer leaves, by folder; other files in these folders are never removed.
_LEFTOVERS = {
    "catalog": rf"{_PART}({_TEMPORARY})?",
    "globals": rf"{_PART}({_TEMPORARY})?",
    "locals": rf"{_PART}({_TEMPORARY})?",
    "maps": rf"{_PART}({_TEMPORARY})?",
    "keypoints": rf"{_PART}({_TEMPORARY})?",
    "model": rf"(fitted(-[0-9a-f]{{16}})?\.safetensors|describer-[0-9a-f]{{16}}\.(onnx|json))({_TEMPORARY})?",
    "generations": rf"\d{{6,}}\.json({_TEMPORARY})?",
    "runs": rf".+\.json{_TEMPORARY}",
    ".": rf"({re.escape(NAME)}|{re.escape(STAGED)}|{re.escape(HOLDER)}|failures\.(parquet|csv)){_TEMPORARY}",
}


@dataclass(frozen=True)
class Collected:
    """What was removed."""

    files: int
    bytes: int


def keep_copy(directory: Path, manifest: IndexManifest) -> PartFile:
    """Copy a manifest to `generations/`, so that it can be returned to; the next commit has to name the file.

    The copy names no earlier ones: which are kept is for the committed generation to say.
    """
    content = as_bytes(manifest.model_copy(update={"earlier": ()}))
    return write_file(directory, f"generations/{manifest.generation:06d}.json", lambda path: path.write_bytes(content))


def read_earlier(directory: Path, file: PartFile) -> IndexManifest:
    """A manifest that was kept. Raises RelookError when it is damaged."""
    return read_manifest(directory, file.path)


def collect(directory: Path, head: IndexManifest | None, staged: IndexManifest | None) -> Collected:
    """Remove temporary files, and whatever neither `head`, nor a generation that it keeps, nor `staged` names.

    Without a manifest, or where one that is kept cannot be read, it is not known which files are needed: only
    temporary files are removed then.
    """
    kept = _needed(directory, head, staged)
    files = size = 0
    for folder, pattern in _LEFTOVERS.items():
        for path in sorted((directory / folder).glob("*")):
            sure = kept is not None or path.name.endswith(TEMPORARY)
            if sure and re.fullmatch(pattern, path.name) and f"{folder}/{path.name}" not in (kept or ()):
                with write_errors(path):
                    size += path.stat().st_size
                    path.unlink()
                files += 1
                fault_point("collected")
    return Collected(files, size)


def collect_local_stores(directory: Path, head: IndexManifest | None, staged: IndexManifest | None) -> Collected:
    """Remove the local ann stores of models that no kept generation has; `ann/` has a folder per fingerprint."""
    manifests = _manifests(directory, head, staged)
    if manifests is None:
        return Collected(0, 0)
    kept = {manifest.fingerprint for manifest in manifests}
    files = size = 0
    for folder in sorted((directory / "ann").glob("*")):
        if re.fullmatch("[0-9a-f]{16}", folder.name) and folder.name not in kept and not folder.is_symlink():
            found = [path for path in folder.rglob("*") if path.is_file()]
            with write_errors(folder):
                files, size = files + len(found), size + sum(path.stat().st_size for path in found)
                shutil.rmtree(folder)
    return Collected(files, size)


def _needed(directory: Path, head: IndexManifest | None, staged: IndexManifest | None) -> set[str] | None:
    """Paths of all files that a manifest names; None where that is not known."""
    manifests = _manifests(directory, head, staged)
    if manifests is None:
        return None
    named = {file.path for manifest in manifests for file in (*manifest.files(), *manifest.earlier)}
    return named.union(*(describer_files(manifest.fingerprint) for manifest in manifests))


def _manifests(directory: Path, head: IndexManifest | None, staged: IndexManifest | None) -> list[IndexManifest] | None:
    """The committed manifest, the staged one and those that can be returned to; None where one cannot be read."""
    if head is None:
        return None
    manifests = [head, *([staged] if staged else [])]
    try:
        manifests += [read_earlier(directory, file) for file in head.earlier]
    except RelookError as error:
        logger.warning("%s; nothing is collected until gc has dropped that generation", error)
        return None
    return manifests
