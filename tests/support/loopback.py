"""A web server on the loopback interface that serves bytes, with ranges, and fails as it is told."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Site:
    """What is served, and how.

    Attributes:
        files: content by path.
        ranges: whether ranges are honoured.
        tags: whether versions are told apart.
        cut: the connection ends after so many bytes of each answer; None: never.
        slow: seconds of sleep after each 8 kB.
        statuses: answers to give first, one per request, before any content.
        asked: (path, Range header) of every request.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    tags: bool = True
    cut: int | None = None
    slow: float = 0.0
    statuses: list[int] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)
    address: str = ""

    def ranges_of(self, path: str) -> list[str]:
        return [asked for name, asked in self.asked if name == path]


@contextmanager
def serving(site: Site) -> Iterator[Site]:
    """Serve `site` for the length of the block; `site.address` says where."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _answer(self, site)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """Clients that were killed in the middle are what the tests are about."""

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    site.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()


def _answer(request: BaseHTTPRequestHandler, site: Site) -> None:
    asked = request.headers.get("Range", "")
    site.asked.append((request.path, asked))
    if site.statuses or request.path not in site.files:
        request.send_response(site.statuses.pop(0) if site.statuses else 404)
        request.send_header("Content-Length", "0")
        request.end_headers()
        return
    content = site.files[request.path]
    tag = f'"{hashlib.sha256(content).hexdigest()}"' if site.tags else ""
    start = 0
    match = re.fullmatch(r"bytes=(\d+)-", asked)
    if match and site.ranges and request.headers.get("If-Range", tag) == tag:
        start = int(match[1])
    if start and start >= len(content):
        request.send_response(416)
        request.send_header("Content-Length", "0")
        request.end_headers()
        return
    request.send_response(206 if start else 200)
    if start:
        request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
    if tag:
        request.send_header("ETag", tag)
    request.send_header("Content-Length", str(len(content) - start))
    request.end_headers()
    end = len(content) if site.cut is None else min(len(content), start + site.cut)
    for place in range(start, end, 8192):
        request.wfile.write(content[place : min(place + 8192, end)])
        request.wfile.flush()
        time.sleep(site.slow)
    request.close_connection = True
