"""A server with the calls of Google Cloud Storage's JSON API that pyarrow and Google's own client make, in memory.

Preconditions (`ifGenerationMatch`) are heeded as Google describes them; the emulator that PyPI has does not know them.
The server is a process of its own, so that no call of a client that keeps Python's lock can keep it from an answer.
`python google_server.py` prints the address and serves until its input ends. Each test has a bucket of its own, to
which the environment leads.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import httpx
import pytest

_PAGE = 7  # objects of one answer to a listing: tests have several pages


@dataclass
class Stored:
    """An object."""

    content: bytes
    generation: int
    updated: str


@dataclass
class Storage:
    """What the server holds: objects by bucket and name, and uploads that have begun."""

    buckets: dict[str, dict[str, Stored]] = field(default_factory=dict)
    uploads: dict[str, tuple[str, str, dict[str, list[str]], bytes]] = field(default_factory=dict)
    generation: int = 1000
    lock: threading.Lock = field(default_factory=threading.Lock)

    def put(self, bucket: str, name: str, content: bytes, condition: str | None = None) -> Stored | None:
        """The object as it is afterwards; None: the condition does not hold."""
        with self.lock:
            there = self.buckets[bucket].get(name)
            if condition is not None and int(condition) != (there.generation if there else 0):
                return None
            self.generation += 1
            stored = Stored(content, self.generation, datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"))
            self.buckets[bucket][name] = stored
            return stored


class Handler(BaseHTTPRequestHandler):
    """One connection; `storage` is of the process."""

    protocol_version = "HTTP/1.1"
    storage = Storage()

    def do_GET(self) -> None:
        address, asked = urlsplit(self.path), parse_qs(urlsplit(self.path).query)
        match = re.fullmatch(r"(?:/download)?/storage/v1/b/([^/]+)/o(?:/(.+))?", address.path)
        if match is None:
            return self._refuse(400, f"no such call: {self.path}")
        bucket = self.storage.buckets.get(unquote(match[1]))
        if bucket is None:
            return self._refuse(404, "The specified bucket does not exist.")
        if match[2] is None:
            return self._list(unquote(match[1]), bucket, asked)
        name = unquote(match[2])
        found = bucket.get(name)
        if found is None:
            return self._refuse(404, f"No such object: {unquote(match[1])}/{name}")
        if "ifGenerationMatch" in asked and asked["ifGenerationMatch"] != [str(found.generation)]:
            return self._refuse(412, "At least one of the pre-conditions you specified did not hold.")
        if asked.get("alt") == ["media"]:
            return self._content(found)
        return self._answer(200, _metadata(unquote(match[1]), name, found))

    def do_POST(self) -> None:
        address, asked = urlsplit(self.path), parse_qs(urlsplit(self.path).query)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if address.path == "/storage/v1/b":
            self.storage.buckets[json.loads(body)["name"]] = {}
            return self._answer(200, {})
        match = re.fullmatch(r"/upload/storage/v1/b/([^/]+)/o", address.path)
        if match is None:
            return self._refuse(400, f"no such call: {self.path}")
        bucket = unquote(match[1])
        if bucket not in self.storage.buckets:
            return self._refuse(404, "The specified bucket does not exist.")
        if asked["uploadType"] == ["resumable"]:
            number = secrets.token_hex(8)
            self.storage.uploads[number] = (bucket, asked["name"][0], asked, b"")
            host = self.headers["Host"]
            return self._answer(
                200, {}, Location=f"http://{host}{address.path}?uploadType=resumable&upload_id={number}"
            )
        if asked["uploadType"] == ["multipart"]:
            head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
            first, second = BytesParser().parsebytes(head + body).get_payload()
            return self._store(bucket, json.loads(first.get_payload(decode=True))["name"], second_body(second), asked)
        return self._store(bucket, asked["name"][0], body, asked)

    def do_PUT(self) -> None:
        number = parse_qs(urlsplit(self.path).query)["upload_id"][0]
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        bucket, name, asked, before = self.storage.uploads[number]
        content = before + body
        whole = (self.headers.get("Content-Range") or "bytes */*").rpartition("/")[2]
        if whole == "*" or len(content) < int(whole):
            self.storage.uploads[number] = (bucket, name, asked, content)
            return self._answer(308, None, **({"Range": f"bytes=0-{len(content) - 1}"} if content else {}))
        return self._store(bucket, name, content, asked)

    def _store(self, bucket: str, name: str, content: bytes, asked: dict[str, list[str]]) -> None:
        stored = self.storage.put(bucket, name, content, asked.get("ifGenerationMatch", [None])[0])
        if stored is None:
            return self._refuse(412, "At least one of the pre-conditions you specified did not hold.")
        return self._answer(200, _metadata(bucket, name, stored))

    def _list(self, bucket: str, objects: dict[str, Stored], asked: dict[str, list[str]]) -> None:
        prefix, after = asked.get("prefix", [""])[0], asked.get("pageToken", [""])[0]
        names = sorted(name for name in objects if name.startswith(prefix) and name > after)
        document: dict[str, Any] = {"items": [_metadata(bucket, name, objects[name]) for name in names[:_PAGE]]}
        if len(names) > _PAGE:
            document["nextPageToken"] = names[_PAGE - 1]
        self._answer(200, document)

    def _content(self, found: Stored) -> None:
        first, last = 0, len(found.content) - 1
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if asked:
            first, last = int(asked[1]), min(last, int(asked[2] or last))
        part = found.content[first : last + 1]
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(found.content)}")
        self.send_header("x-goog-generation", str(found.generation))
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)

    def _refuse(self, code: int, message: str) -> None:
        self._answer(code, {"error": {"code": code, "message": message, "errors": [{"message": message}]}})

    def _answer(self, code: int, document: Any, **headers: str) -> None:
        body = b"" if document is None else json.dumps(document).encode()
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json; charset=UTF-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing: a failing test shows what failed."""


def second_body(part: Any) -> bytes:
    """The content of a multipart upload, which ends before the line break of its boundary."""
    return bytes(part.get_payload(decode=True))


def _metadata(bucket: str, name: str, stored: Stored) -> dict[str, Any]:
    return {
        "kind": "storage#object",
        "id": f"{bucket}/{name}/{stored.generation}",
        "bucket": bucket,
        "name": name,
        "generation": str(stored.generation),
        "metageneration": "1",
        "size": str(len(stored.content)),
        "md5Hash": base64.b64encode(hashlib.md5(stored.content).digest()).decode(),
        "timeCreated": stored.updated,
        "updated": stored.updated,
    }


@dataclass
class GoogleBucket:
    """A bucket, read and written by plain requests."""

    name: str
    endpoint: str

    @property
    def url(self) -> str:
        return f"gs://{self.name}"

    def put(self, key: str, content: bytes | Path) -> None:
        body = content.read_bytes() if isinstance(content, Path) else content
        address = f"{self.endpoint}/upload/storage/v1/b/{self.name}/o"
        httpx.post(address, params={"uploadType": "media", "name": key}, content=body).raise_for_status()

    def put_folder(self, folder: Path, prefix: str) -> None:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.put(f"{prefix}/{path.relative_to(folder).as_posix()}", path)

    def get(self, key: str) -> bytes:
        address = f"{self.endpoint}/storage/v1/b/{self.name}/o/{quote(key, safe='')}"
        return httpx.get(address, params={"alt": "media"}).raise_for_status().content


@pytest.fixture(scope="session")
def google_server() -> Iterator[str]:
    """Its address."""
    command = [sys.executable, __file__]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        yield server.stdout.readline().strip()
        server.stdin.close()


@pytest.fixture
def google_bucket(google_server: str, monkeypatch: pytest.MonkeyPatch) -> GoogleBucket:
    """An empty bucket."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", google_server)
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    name = f"bucket-{secrets.token_hex(6)}"
    httpx.post(f"{google_server}/storage/v1/b", json={"name": name}).raise_for_status()
    return GoogleBucket(name, google_server)


def main() -> None:
    """Serve until stdin ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
