"""An index in a bucket: the files of an index directory under a prefix, `index.json` last.

`fetch` brings an index directory of this disk to the generation of the bucket; `publish` does the reverse. Parts are
immutable and have names of their own, so each is moved once, and what is there already is left; `index.json` is
replaced only where it is still the one that this index was derived from. Whoever is killed on the way leaves the
generation before, in the bucket as on the disk. docs/object-stores.md says why it is done so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import RelookError
from pipeline.faults import fault_point
from pipeline.files import ObjectPath, atomic_path, sha256_of, write_bytes, write_errors
from pipeline.files.conditional_put import ConditionalObject
from pipeline.stores.index.carried_describer import describer_files, read_describer
from pipeline.stores.index.manifest import (
    NAME,
    STAGED,
    IndexManifest,
    PartFile,
    PartKind,
    as_bytes,
    failures_name,
    parse_manifest,
    read_manifest,
    write_manifest,
)
from pipeline.stores.index.retention import collect, keep_copy

# Files that are moved at once: a store answers each after some hundredths of a second.
AT_ONCE = 8

_REMEDY = "remove it, and the next extract writes it again"


@dataclass(frozen=True)
class Version:
    """What `index.json` of a bucket held when it was read; `tag` is the store's, `digest` of the content alone."""

    content: bytes
    tag: str

    @property
    def digest(self) -> str:
        """SHA-256 in hexadecimal."""
        return digest_of(self.content)


class PublishedIndex:
    """An index below a prefix of a bucket.

    Args:
        place: the prefix, where `index.json` is.
        parts: where the paths in it start from; None: at `place`, too.
    """

    def __init__(self, place: ObjectPath, parts: ObjectPath | None = None) -> None:
        self.place, self._parts = place, parts or place

    def manifest(self) -> IndexManifest:
        """The generation that is there. Raises RelookError where there is none, or it is damaged."""
        return self.parsed(self._content())

    def content(self) -> bytes | None:
        """Of `index.json`; None: there is none. Raises RelookError where the store cannot be used."""
        try:
            return (self.place / NAME).read()
        except FileNotFoundError:
            return None

    def version(self) -> Version | None:
        """The same, with what a later write is bound to; None: there is no index yet."""
        found = ConditionalObject(self.place / NAME).read()
        return None if found is None else Version(*found)

    def fetch(
        self, directory: Path, content: bytes | None = None, kinds: Collection[PartKind] | None = None
    ) -> IndexManifest:
        """Bring an index directory to the generation of the bucket; the caller has the right to write to it.

        The generation that it had stays readable. Files that no longer belong to either are removed.

        Args:
            directory: made where it is missing.
            content: of `index.json`, where it was read already.
            kinds: of the files of parts that are needed; None: a whole copy, with the describer that it carries.

        Raises:
            RelookError: there is no index; or a file of it is missing, cut off or damaged, and the directory is as it
                was.
        """
        manifest = self.parsed(content or self._content()).model_copy(update={"earlier": ()})
        before = _committed(directory)
        same = before is not None and published_form(before) == published_form(manifest)
        if same and kinds is None:
            assert before is not None
            return before
        known = {file.path: file for file in before.files()} if before else {}
        self._fetch_files(directory, _files_of(manifest, kinds), known)
        if kinds is None:
            self._fetch_describer(directory, manifest.fingerprint)
        self._fetch_failures(directory, manifest)
        if before is not None and same:
            return before
        with write_errors(directory / NAME):
            earlier = (keep_copy(directory, before),) if before else ()
            manifest = manifest.model_copy(update={"earlier": earlier})
            (directory / STAGED).unlink(missing_ok=True)
            fault_point("commit")
            write_manifest(directory, manifest)
        fault_point("committed")
        collect(directory, manifest, None)
        return manifest

    def publish(self, directory: Path, manifest: IndexManifest, replaced: Version | None) -> None:
        """Upload what the bucket lacks, then make this generation the one that readers see.

        Args:
            directory: where its files lie.
            manifest: the generation.
            replaced: the version that it was derived from; None: there was none.

        Raises:
            LockedError: another run has published one meanwhile; readers see that.
            RelookError: a file is missing here, or the store refuses.
        """
        commit = ConditionalObject(self.place / NAME)
        there = self._sizes()
        self.upload_files(directory, [file for file in manifest.files() if there.get(file.path) != file.bytes])
        self._upload_describer(directory, manifest.fingerprint)
        self._upload_failures(directory, manifest)
        there = self._sizes()
        for file in manifest.files():
            if there.get(file.path) != file.bytes:
                raise RelookError(
                    f"{self._parts / file.path}: {there.get(file.path, 0):,} bytes instead of {file.bytes:,} after the "
                    "upload; the generation before stays, run it again"
                )
        commit.replace(published_form(manifest), replaced.tag if replaced else None)

    def fetch_files(self, directory: Path, files: Iterable[PartFile]) -> None:
        """Fetch some files of the index to a directory, as far as they are not there. Raises as `fetch` does."""
        self._fetch_files(directory, files, {})

    def upload_files(self, directory: Path, files: Iterable[PartFile]) -> None:
        """Upload some files of a directory. Raises as `publish` does."""
        _each(lambda file: self._upload(directory, file), files)

    def _content(self) -> bytes:
        content = self.content()
        if content is None:
            raise RelookError(f"{self.place}: no index here (there is no {NAME}); make one with: relook extract")
        return content

    def parsed(self, content: bytes) -> IndexManifest:
        """What `index.json` says. Raises RelookError where it is damaged."""
        return parse_manifest(content, str(self.place / NAME))

    def _sizes(self) -> dict[str, int]:
        with suppress(FileNotFoundError):
            return {path: facts.st_size for path, facts in self._parts.below()}
        return {}

    def _fetch_files(self, directory: Path, files: Iterable[PartFile], known: Mapping[str, PartFile]) -> None:
        _each(lambda file: self._fetch_file(directory, file, known.get(file.path)), files)

    def _fetch_file(self, directory: Path, file: PartFile, known: PartFile | None) -> None:
        target, source = directory / file.path, self._parts / file.path
        with suppress(OSError):
            if target.stat().st_size == file.bytes and (known == file or sha256_of(target) == file.sha256):
                return
        with write_errors(target), atomic_path(target) as temporary:
            _download(source, temporary)
            size = temporary.stat().st_size
            if size != file.bytes:
                raise RelookError(f"{source}: {size:,} bytes instead of {file.bytes:,}; {_REMEDY}")
            if sha256_of(temporary) != file.sha256:
                raise RelookError(f"{source}: damaged (its checksum differs); {_REMEDY}")
        fault_point("fetched")

    def _fetch_describer(self, directory: Path, fingerprint: str) -> None:
        """Searches do without it: they load the weights in its place."""
        with suppress(RelookError):
            if read_describer(directory, fingerprint) is not None:
                return
        for name in describer_files(fingerprint):
            target, source = directory / name, self.place / name
            if source.exists():
                with write_errors(target), atomic_path(target) as temporary:
                    _download(source, temporary)

    def _upload(self, directory: Path, file: PartFile) -> None:
        source = directory / file.path
        try:
            size = source.stat().st_size
        except OSError as error:
            raise RelookError(f"{source}: cannot be read ({error.strerror})") from None
        if size != file.bytes:
            raise RelookError(f"{source}: {size:,} bytes instead of {file.bytes:,}; check it with: relook verify")
        (self._parts / file.path).upload(source)
        fault_point("uploaded")

    def _fetch_failures(self, directory: Path, manifest: IndexManifest) -> None:
        """What the run that published could not read; one that was copied there by hand may have no such list."""
        name = failures_name(manifest)
        with suppress(FileNotFoundError):
            content = (self.place / name).read()
            with write_errors(directory / name):
                write_bytes(directory / name, content)

    def _upload_failures(self, directory: Path, manifest: IndexManifest) -> None:
        name = failures_name(manifest)
        if (directory / name).exists():
            (self.place / name).upload(directory / name)

    def _upload_describer(self, directory: Path, fingerprint: str) -> None:
        if read_describer(directory, fingerprint) is None:
            return
        graph, description = describer_files(fingerprint)
        with suppress(FileNotFoundError):
            if (self.place / description).read() == (directory / description).read_bytes():
                return
        for name in (graph, description):
            (self.place / name).upload(directory / name)


def _files_of(manifest: IndexManifest, kinds: Collection[PartKind] | None) -> list[PartFile]:
    """The files of these kinds, and the projections."""
    if kinds is None:
        return manifest.files()
    files = [file for part in manifest.parts for kind, file in part.files.items() if kind in kinds]
    return [*files, manifest.fitted] if manifest.fitted else files


def published_form(manifest: IndexManifest) -> bytes:
    """The content of `index.json` in a bucket: which generations a disk can return to is a matter of that disk."""
    return as_bytes(manifest.model_copy(update={"earlier": ()}))


def digest_of(content: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def _download(source: ObjectPath, target: Path) -> None:
    try:
        source.download(target)
    except FileNotFoundError:
        raise RelookError(f"{source}: missing; {_REMEDY}") from None


def _committed(directory: Path) -> IndexManifest | None:
    return read_manifest(directory) if (directory / NAME).exists() else None


def _each(work: Callable[[PartFile], None], files: Iterable[PartFile]) -> None:
    """Several at once; the first error ends it."""
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="bucket") as pool:
        running = [pool.submit(work, file) for file in files]
        try:
            for one in running:
                one.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
