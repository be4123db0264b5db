"""Files, below every room: atomic writes, why a write failed, locks between processes, checksums, objects in a
bucket, cells and text that are safe to show."""

from pipeline.files.append import append_line
from pipeline.files.atomic_write import TEMPORARY, atomic_path, write_bytes
from pipeline.files.checksum import sha256_of
from pipeline.files.disk_errors import write_errors
from pipeline.files.formula_cells import escape_formula, unescape_formula
from pipeline.files.link import link_file
from pipeline.files.object_store import ObjectFacts, ObjectPath, Place, address, located, object_path, refuse_bucket
from pipeline.files.process_lock import NO_LOCKS, exclusive_lock
from pipeline.files.visible_text import visible

__all__ = [
    "NO_LOCKS",
    "TEMPORARY",
    "ObjectFacts",
    "ObjectPath",
    "Place",
    "address",
    "append_line",
    "atomic_path",
    "escape_formula",
    "exclusive_lock",
    "link_file",
    "located",
    "object_path",
    "refuse_bucket",
    "sha256_of",
    "unescape_formula",
    "visible",
    "write_bytes",
    "write_errors",
]
