"""Objects in a bucket, as far as photos and indexes need them: listed, read and written through pyarrow's file systems.

Beside `pathlib.Path`, whose names it uses. `located` says which of the two a text means. Credentials come from the
environment and the usual files of each provider, never from a URL; pyarrow.fs is loaded with the first URL.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from stat import S_IFREG
from typing import Any
from urllib.parse import parse_qsl

from pipeline.errors import RelookError, UsageError
from pipeline.files.store_access import NO_GOOGLE_BUCKET, environment, is_google, opened, store_error, store_options

SCHEMES = ("s3", "gs", "gcs", "abfs", "abfss", "hdfs")

# Path() folds the second slash, so one is enough.
_URL = re.compile(rf"(?P<scheme>{'|'.join(SCHEMES)}):/{{1,2}}(?P<bucket>[^/?]+)(?P<key>/[^?]*)?(?:\?(?P<options>.*))?")
_SECRET = re.compile(r"secret|password|token|access_key|sas", re.IGNORECASE)
_BLOCK = 8 << 20
# What pyarrow says of a folder of gs:// that no object is in, without the number of the error.
_NOTHING_BELOW = "No such file or directory"


@dataclass(frozen=True)
class ObjectFacts:
    """What a listing says of an object, under the names of `os.stat_result`; the time is that of its last upload.

    In whole seconds: a listing may have more digits than the answer for one object.
    """

    st_size: int
    st_mtime_ns: int
    st_mode: int = S_IFREG


@dataclass(frozen=True)
class ObjectPath:
    """An object, or what lies below a prefix.

    Attributes:
        store: scheme and bucket, "s3://bucket".
        key: "" is the bucket itself; without slashes at its ends.
        options: of the URL, after its question mark: "endpoint_override=…", "region=…".
        facts: of an object, where a listing said them.
    """

    store: str
    key: str = ""
    options: str = ""
    facts: ObjectFacts | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return f"{self.store}/{self.key}" if self.key else self.store

    def __truediv__(self, name: str) -> ObjectPath:
        return replace(self, key=f"{self.key}/{name}" if self.key else name, facts=None)

    @property
    def url(self) -> str:
        """With the options: what opens the same place again."""
        return f"{self}?{self.options}" if self.options else str(self)

    @property
    def bucket(self) -> str:
        """The name after the scheme."""
        return self.store.partition("://")[2]

    @property
    def server(self) -> str:
        """Host and port of the server that the URL or the environment names; "" is the provider's own."""
        return store_options(self.store, self.options).get("endpoint_override", "")

    @property
    def name(self) -> str:
        """The last part of the key."""
        return PurePosixPath(self.key).name

    def resolve(self) -> ObjectPath:
        """Itself: there are no links."""
        return self

    def stat(self) -> ObjectFacts:
        """Its size and time. Raises FileNotFoundError where there is no such object, RelookError as `read` does."""
        if self.facts is not None:
            return self.facts
        with _store_errors(self):
            return self._look_up()

    def exists(self) -> bool:
        """Whether there is such an object. Raises RelookError as `read` does."""
        try:
            self.stat()
        except FileNotFoundError:
            return False
        return True

    def read(self, most: int | None = None) -> bytes:
        """The content, from one upload; of one that has more than `most` bytes nothing is returned.

        Raises:
            FileNotFoundError: there is no such object.
            ValueError: it has more than `most` bytes.
            UnreachableError: the store cannot be reached.
            RelookError: there is no such bucket, or the store refuses.
        """
        if is_google(self.store):
            return self._streamed(most)
        with _store_errors(self), self._files.open_input_file(self._place) as stream:
            size = stream.size()
            if most is None or size <= most:
                return bytes(stream.read(size))
        raise ValueError(f"{size:,} bytes, more than the {most:,} allowed")

    def sha256(self) -> str:
        """Of the content, in hexadecimal. Raises as `read` does."""
        digest = hashlib.sha256()
        with _store_errors(self), self._files.open_input_stream(self._place) as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
        return digest.hexdigest()

    def download(self, target: Path) -> None:
        """Write the content to a file. Raises as `read` does, and OSError where the disk is full."""
        with target.open("wb") as file, _store_errors(self), self._files.open_input_stream(self._place) as stream:
            while block := stream.read(_BLOCK):
                file.write(block)

    def upload(self, source: Path) -> None:
        """Make a file the content. Raises as `read` does.

        A process that is killed leaves what was there. Where the file cannot be read to its end, the object holds what
        was: compare its size.
        """
        with source.open("rb") as file, _store_errors(self), self._files.open_output_stream(self._place) as stream:
            while block := file.read(_BLOCK):
                stream.write(block)

    def below(self) -> Iterator[tuple[str, ObjectFacts]]:
        """Every object below this prefix: the rest of its key, and its facts.

        Raises:
            FileNotFoundError: there is none.
            RelookError: as `read` does.
        """
        from pyarrow.fs import FileSelector, FileType

        with _store_errors(self):
            start = len(self._place) + 1
            for found in self._files.get_file_info(FileSelector(self._place, recursive=True)):
                if found.type == FileType.File:
                    yield found.path[start:], _facts_of(found)

    def _streamed(self, most: int | None) -> bytes:
        """`read` by one request; to query the size of a file of gs:// first keeps all threads waiting."""
        with _store_errors(self), self._files.open_input_stream(self._place) as stream:
            content = bytearray()
            while (most is None or len(content) <= most) and (block := stream.read(_BLOCK)):
                content += block
        if most is None or len(content) <= most:
            return bytes(content)
        raise ValueError(f"{self.stat().st_size:,} bytes, more than the {most:,} allowed")

    @property
    def _place(self) -> str:
        base = opened(self.store, self.options, environment())[1]
        return f"{base}/{self.key}" if self.key else str(base)

    @property
    def _files(self) -> Any:
        return opened(self.store, self.options, environment())[0]

    def _look_up(self) -> ObjectFacts:
        from pyarrow.fs import FileType

        found = self._files.get_file_info(self._place)
        if found.type != FileType.File:
            raise FileNotFoundError(2, "No such object", str(self))
        return _facts_of(found)


# A photo or a folder, wherever it lies.
Place = Path | ObjectPath


def object_path(text: str | Path) -> ObjectPath | None:
    """The place in a store that a URL names; None where it is no such URL.

    Args:
        text: "s3://bucket/folder", as `pyarrow.fs.FileSystem.from_uri` takes it, with `?endpoint_override=…&region=…`
            where needed. Keys are written as they are, not percent-encoded.

    Raises:
        UsageError: it has credentials in it.
    """
    match = _URL.fullmatch(str(text))
    if match is None:
        return None
    bucket, options = match["bucket"], match["options"] or ""
    user = bucket.rpartition("@")[0]
    if ":" in user or any(_SECRET.search(name) for name, _ in parse_qsl(options)):
        raise UsageError(
            f"{match['scheme']}://…: a URL with credentials, which logs would show; set them in the environment, such "
            "as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    return ObjectPath(f"{match['scheme']}://{bucket}", (match["key"] or "").strip("/"), options)


def located(text: str | Path) -> Place:
    """A path as settings, tables and results have it: of an object where it is such a URL, otherwise of a file."""
    return object_path(text) or Path(text)


def refuse_bucket(directory: Path) -> None:
    """Raises RelookError for an index in a bucket where only one on a disk will do."""
    place = object_path(directory)
    if place is not None:
        raise RelookError(
            f"{place}: this needs an index directory on a disk; an index in a bucket is written by extract and "
            "reindex, and read by search, serve, evaluate, info, duplicates and upload"
        )


def address(place: Place) -> str:
    """What `located` takes for the same place again."""
    return place.url if isinstance(place, ObjectPath) else str(place)


def _facts_of(found: Any) -> ObjectFacts:
    seconds = int(found.mtime_ns or 0) // 1_000_000_000
    return ObjectFacts(int(found.size), seconds * 1_000_000_000)


def _client_errors() -> tuple[type[Exception], ...]:
    """What pyarrow raises: some of what Google says is of no standard type."""
    from pyarrow import ArrowException

    return OSError, ValueError, ArrowException


@contextmanager
def _store_errors(place: ObjectPath) -> Iterator[None]:
    """Turn what a store or its client says into one line that names the object; a missing object stays as it is."""
    try:
        yield
    except RelookError:
        raise
    except FileNotFoundError as error:
        if NO_GOOGLE_BUCKET not in str(error):
            raise
        raise store_error(str(place), place.options, error) from None
    except _client_errors() as error:
        if str(error).startswith(_NOTHING_BELOW):
            raise FileNotFoundError(2, "No such object", str(place)) from None
        raise store_error(str(place), place.options, error) from None
