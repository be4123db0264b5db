"""A Pinecone service on loopback, for the real SDK: control and data plane, both APIs, limits, delays and faults.

Point the SDK at it with `server.environment`. The SDK keeps retry budgets and admission limits per host name, for the
whole process, so each server has a loopback address of its own. What is kept is in `pinecone_data.py`.
"""

from __future__ import annotations

import itertools
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import orjson
import pyarrow.parquet as pq
from pinecone_data import MAX_REPLY, MAX_REQUEST, READERS, Namespace, Record, RefusedError, ServedIndex

KEY = "pcsk_test_3Zq9_do-not-show-me"
MAX_URL = 8192
_ADDRESSES = itertools.count(2)


@dataclass
class Fault:
    """What happens to the next `times` requests whose path holds `path`, after `skip` that are spared.

    Attributes:
        status: answer with this, and with `retry_after` seconds where it is set.
        slow: wait so many seconds first.
        cut: "before" or "after" the request was carried out, close the connection without an answer.
    """

    path: str
    times: int = 1
    status: int = 0
    retry_after: float | None = None
    slow: float = 0.0
    cut: str = ""
    skip: int = 0


@dataclass
class Request:
    """One request, as the routes see it."""

    method: str
    path: str
    query: dict[str, list[str]]
    body: Any


@dataclass
class Reply:
    """A JSON document with its headers."""

    body: Any
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 200


class PineconeServer:
    """Serves from entering to leaving; what it was asked stands in `calls`, `received` and `largest`.

    Attributes:
        key: the only key that is accepted.
        indexes: by name.
        faults: what goes wrong next.
        calls: how often each kind of request arrived, those that failed as well.
        received: how often each id was written, by (namespace, id).
        largest: bytes of the largest request and reply.
        buckets: the folder that stands for each "gs://..." or "s3://...".
        import_seconds: how long an import takes.
        silent: say nothing of sequence numbers.
        older: the control plane describes indexes by dimension and metric, and knows no schema.
        most_at_once: the largest number of requests that were open at the same time.
    """

    def __init__(self) -> None:
        number = next(_ADDRESSES)
        # Every process that is forked or spawned for tests counts from the same start; the port is its own anyway.
        self._http = ThreadingHTTPServer((f"127.0.{number // 250}.{number % 250 + 2}", 0), _handler(self))
        self._http.daemon_threads = True
        self.key = KEY
        self.indexes: dict[str, ServedIndex] = {}
        self.faults: list[Fault] = []
        self.calls: Counter[str] = Counter()
        self.received: Counter[tuple[str, str]] = Counter()
        self.largest = {"request": 0, "reply": 0}
        self.buckets: dict[str, Path] = {}
        self.import_seconds = 0.0
        self.silent = False
        self.older = False
        self.open, self.most_at_once = 0, 0
        self.lock = threading.RLock()

    def __enter__(self) -> PineconeServer:
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    @property
    def address(self) -> str:
        """Where it listens."""
        host, port = self._http.server_address[:2]
        return f"http://{host!s}:{port}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which the SDK finds it."""
        return {"PINECONE_CONTROLLER_HOST": self.address, "PINECONE_API_KEY": KEY}

    def create(self, name: str, dimension: int, kind: str = "documents", metric: str = "cosine") -> ServedIndex:
        """An index that exists already; `kind` "vectors" is the older one."""
        column = {"documents": "vector", "vectors": "_values"}[kind]
        schema = {"fields": {column: {"type": "dense_vector", "dimension": dimension, "metric": metric}}}
        return self._create({"name": name, "schema": schema})

    def delay(self, seconds: float, *readers: str) -> None:
        """From now on writes are seen so much later, by these kinds of readers or by all."""
        for index in self.indexes.values():
            index.delays |= dict.fromkeys(readers or READERS, seconds)

    def content(self, name: str = "relook") -> dict[str, dict[str, Record]]:
        """All that an index will hold in the end, by namespace."""
        index = self.indexes[name]
        return {space: kept.everything() for space, kept in index.namespaces.items()}

    def answer(self, request: Request, key: str | None) -> Reply:
        """Carry a request out. Raises RefusedError."""
        if key != self.key:
            raise RefusedError(401, f"Invalid API Key {key}")
        for method, pattern, route in _ROUTES:
            found = re.fullmatch(pattern, request.path)
            if found and method == request.method:
                with self.lock:
                    return route(self, request, *(unquote(part) for part in found.groups()))
        raise RefusedError(404, f"no route {request.method} {request.path}")

    def fault(self, path: str) -> Fault | None:
        """What is to happen to this request, counted down."""
        with self.lock:
            for fault in self.faults:
                if fault.path in path and fault.times > 0:
                    if fault.skip > 0:
                        fault.skip -= 1
                        return None
                    fault.times -= 1
                    return fault
        return None

    def served(self, name: str) -> ServedIndex:
        """An index by name. Raises RefusedError where there is none."""
        if name not in self.indexes:
            raise RefusedError(404, f"Resource {name} not found")
        return self.indexes[name]

    def _create(self, body: dict[str, Any]) -> ServedIndex:
        name = body["name"]
        if name in self.indexes:
            raise RefusedError(409, "Resource already exists")
        cloud = body.get("deployment") or {"deployment_type": "managed", "cloud": "aws", "region": "us-east-1"}
        self.indexes[name] = ServedIndex(
            {
                "name": name,
                "schema": body["schema"],
                "deployment": cloud,
                "deletion_protection": "disabled",
                "host": f"{self.address}/data/{name}",
                "status": {"ready": True, "state": "Ready"},
                "tags": body.get("tags") or {},
            }
        )
        return self.indexes[name]


def _create_index(server: PineconeServer, request: Request) -> Reply:
    if server.older:
        if "dimension" not in request.body:
            raise RefusedError(422, "missing field dimension")
        server.create(request.body["name"], request.body["dimension"], "vectors", request.body["metric"])
        return _described(server, request.body["name"], 201)
    fields = request.body["schema"]["fields"]
    if any(kind.get("type") != "dense_vector" for kind in fields.values()):
        raise RefusedError(400, "fields that are not searched are not declared")
    return Reply(server._create(request.body).description, status=201)


def _describe(server: PineconeServer, request: Request, name: str) -> Reply:
    return _described(server, name)


def _described(server: PineconeServer, name: str, status: int = 200) -> Reply:
    description = server.served(name).description
    if server.older:
        (field,) = description["schema"]["fields"].values()
        description = {key: description[key] for key in ("name", "status", "tags", "deletion_protection")} | {
            "host": description["host"].partition("://")[2],
            "dimension": field["dimension"],
            "metric": field["metric"],
            "spec": {"serverless": {"cloud": "aws", "region": "us-east-1"}},
        }
    return Reply(description, status=status)


def _configure(server: PineconeServer, request: Request, name: str) -> Reply:
    description = server.served(name).description
    merged = {**description["tags"], **(request.body.get("tags") or {})}
    description["tags"] = {key: value for key, value in merged.items() if value}
    return _described(server, name)


def _upsert_documents(server: PineconeServer, request: Request, name: str, space: str) -> Reply:
    index = server.served(name)
    index.need("documents")
    rows = []
    for document in request.body["documents"]:
        fields = dict(document)
        rows.append((fields.pop("_id", None), fields.pop(index.field, None), fields))
    return _written(server, index.upsert(space, rows), space, [row[0] for row in rows], "upserted_count", "request")


def _upsert_vectors(server: PineconeServer, request: Request, name: str) -> Reply:
    index = server.served(name)
    index.need("vectors")
    space = request.body.get("namespace", "")
    rows = [(one.get("id"), one.get("values"), one.get("metadata") or {}) for one in request.body["vectors"]]
    return _written(server, index.upsert(space, rows), space, [row[0] for row in rows], "upsertedCount", "committed")


def _written(server: PineconeServer, position: int, space: str, ids: list[str], count: str, api: str) -> Reply:
    server.received.update((space, one) for one in ids)
    headers = {"request": "x-pinecone-request-lsn", "committed": "x-pinecone-lsn-committed"}
    return Reply({count: len(ids)}, {headers[api]: str(position)})


def _search_documents(server: PineconeServer, request: Request, name: str, space: str) -> Reply:
    index, body = server.served(name), request.body
    index.need("documents")
    (clause,) = body["score_by"]
    if (clause["type"], clause["field"]) != ("dense_vector", index.field):
        raise RefusedError(400, f"score_by {clause['type']} of {clause.get('field')!r}: no such field")
    found, position = index.search(space, clause["values"], body["top_k"], body.get("filter"))
    shown = body.get("include_fields") or []
    matches = [{"_id": one, "_score": score, **_fields(index, record, shown)} for one, score, record in found]
    reply = {"matches": matches, "namespace": space, "usage": {"read_units": 1}}
    return Reply(reply, {"x-pinecone-max-indexed-lsn": str(position)})


def _query_vectors(server: PineconeServer, request: Request, name: str) -> Reply:
    index, body = server.served(name), request.body
    index.need("vectors")
    space = body.get("namespace", "")
    found, position = index.search(space, body["vector"], body["topK"], body.get("filter"))
    matches = []
    for one, score, (vector, metadata) in found:
        match = {"id": one, "score": score, "values": vector.tolist() if body["includeValues"] else []}
        matches.append(match | ({"metadata": metadata} if body["includeMetadata"] else {}))
    return Reply({"matches": matches, "namespace": space}, {"x-pinecone-lsn-reconciled": str(position)})


def _fetch_documents(server: PineconeServer, request: Request, name: str, space: str) -> Reply:
    index = server.served(name)
    index.need("documents")
    found = index.fetch(space, request.body["ids"])
    shown = request.body.get("include_fields") or ["*"]
    documents = {one: {"_id": one, **_fields(index, record, shown)} for one, record in found.items()}
    return Reply({"documents": documents, "namespace": space, "usage": {"read_units": 1}})


def _fields(index: ServedIndex, record: Record, shown: list[str]) -> dict[str, Any]:
    every = "*" in shown
    fields = {key: value for key, value in record[1].items() if every or key in shown}
    return fields | ({index.field: record[0].tolist()} if every or index.field in shown else {})


def _fetch_vectors(server: PineconeServer, request: Request, name: str) -> Reply:
    index = server.served(name)
    index.need("vectors")
    space = request.query.get("namespace", [""])[0]
    found = index.fetch(space, request.query["ids"])
    vectors = {one: {"id": one, "values": v.tolist(), "metadata": m} for one, (v, m) in found.items()}
    return Reply({"vectors": vectors, "namespace": space, "usage": {"readUnits": 1}})


def _delete_documents(server: PineconeServer, request: Request, name: str, space: str) -> Reply:
    index = server.served(name)
    index.need("documents")
    return Reply({}, {"x-pinecone-request-lsn": str(index.delete(space, request.body["ids"]))})


def _delete_vectors(server: PineconeServer, request: Request, name: str) -> Reply:
    index = server.served(name)
    index.need("vectors")
    index.delete(request.body["namespace"], request.body["ids"])
    return Reply({})


def _list_documents(server: PineconeServer, request: Request, name: str, space: str) -> Reply:
    index, body = server.served(name), request.body
    index.need("documents")
    ids, token = index.page(space, body.get("limit"), body.get("pagination_token"))
    reply = {"documents": [{"_id": one} for one in ids], "namespace": space, "usage": {"read_units": 1}}
    return Reply(reply | ({"pagination": {"next": token}} if token else {}))


def _list_vectors(server: PineconeServer, request: Request, name: str) -> Reply:
    index, query = server.served(name), request.query
    index.need("vectors")
    space = query["namespace"][0]
    ids, token = index.page(space, query.get("limit", [None])[0], query.get("paginationToken", [None])[0])
    reply: dict[str, Any] = {"vectors": [{"id": one} for one in ids], "namespace": space}
    return Reply(reply | ({"pagination": {"next": token}} if token else {}))


def _stats(server: PineconeServer, request: Request, name: str) -> Reply:
    index = server.served(name)
    counts = index.counts()
    spaces = {space: {"vectorCount": count} for space, count in counts.items()}
    return Reply({"namespaces": spaces, "dimension": index.dimension, "totalVectorCount": sum(counts.values())})


def _delete_namespace(server: PineconeServer, request: Request, name: str, space: str) -> Reply:
    if server.served(name).namespaces.pop(space, None) is None:
        raise RefusedError(404, f"Namespace {space} not found")
    return Reply({})


def _start_import(server: PineconeServer, request: Request, name: str) -> Reply:
    index, uri = server.served(name), request.body["uri"]
    number = str(len(index.imports) + 1)
    ready = time.monotonic() + server.import_seconds
    index.imports[number] = {"id": number, "uri": uri, "ready": ready, "status": "InProgress", "done": 0.0}
    return Reply({"id": number})


def _describe_import(server: PineconeServer, request: Request, name: str, number: str) -> Reply:
    index = server.served(name)
    job = index.imports[number]
    if job["status"] == "InProgress" and time.monotonic() >= job["ready"]:
        try:
            job |= {"status": "Completed", "done": 100.0, "records": _import(server, index, job["uri"])}
        except RefusedError as error:
            job |= {"status": "Failed", "error": str(error)}
    return Reply(_job(job))


def _list_imports(server: PineconeServer, request: Request, name: str) -> Reply:
    return Reply({"data": [_job(job) for job in server.served(name).imports.values()]})


def _job(job: Mapping[str, Any]) -> dict[str, Any]:
    shown = {"id": job["id"], "uri": job["uri"], "status": job["status"], "createdAt": "2026-01-01T00:00:00Z"}
    shown |= {"percentComplete": job["done"], "recordsImported": job.get("records", 0)}
    return shown | ({"error": job["error"]} if "error" in job else {})


def _import(server: PineconeServer, index: ServedIndex, uri: str) -> int:
    """Read every Parquet file below the folder of each namespace; a namespace must not exist before."""
    index.need("vectors")
    roots = [folder / uri.removeprefix(bucket).strip("/") for bucket, folder in server.buckets.items() if bucket in uri]
    spaces = [folder for root in roots if root.is_dir() for folder in sorted(root.iterdir()) if folder.is_dir()]
    if not spaces:
        raise RefusedError(400, f"{uri}: no namespaces there")
    count = 0
    for space in spaces:
        if space.name in index.namespaces:
            raise RefusedError(400, f"the namespace {space.name} exists already")
        kept = Namespace()
        for file in sorted(space.glob("*.parquet")):
            for row in pq.read_table(file, columns=["id", "values", "metadata"]).to_pylist():
                metadata = orjson.loads(row["metadata"])
                kept.write({row["id"]: (index._vector(row["id"], row["values"]), metadata)})
                count += 1
        index.namespaces[space.name] = kept
    return count


_DATA = "/data/([^/]+)"
_DOCUMENTS = f"{_DATA}/namespaces/([^/]+)/documents"
_ROUTES: list[tuple[str, str, Callable[..., Reply]]] = [
    ("POST", "/indexes", _create_index),
    ("GET", "/indexes/([^/]+)", _describe),
    ("PATCH", "/indexes/([^/]+)", _configure),
    ("POST", f"{_DOCUMENTS}/upsert", _upsert_documents),
    ("POST", f"{_DOCUMENTS}/search", _search_documents),
    ("POST", f"{_DOCUMENTS}/fetch", _fetch_documents),
    ("POST", f"{_DOCUMENTS}/delete", _delete_documents),
    ("POST", f"{_DOCUMENTS}/list", _list_documents),
    ("POST", f"{_DATA}/vectors/upsert", _upsert_vectors),
    ("POST", f"{_DATA}/query", _query_vectors),
    ("GET", f"{_DATA}/vectors/fetch", _fetch_vectors),
    ("POST", f"{_DATA}/vectors/delete", _delete_vectors),
    ("GET", f"{_DATA}/vectors/list", _list_vectors),
    ("POST", f"{_DATA}/describe_index_stats", _stats),
    ("DELETE", f"{_DATA}/namespaces/([^/]+)", _delete_namespace),
    ("POST", f"{_DATA}/bulk/imports", _start_import),
    ("GET", f"{_DATA}/bulk/imports", _list_imports),
    ("GET", f"{_DATA}/bulk/imports/([^/]+)", _describe_import),
]


def _handler(server: PineconeServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # headers and body in one packet
        disable_nagle_algorithm = True

        def handle(self) -> None:
            with suppress(ConnectionError):
                super().handle()

        def log_message(self, format: str, *arguments: Any) -> None:
            """Quiet."""

        def serve(self) -> None:
            with server.lock:
                server.open += 1
                server.most_at_once = max(server.most_at_once, server.open)
            try:
                self.respond()
            finally:
                with server.lock:
                    server.open -= 1

        def respond(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = urlsplit(self.path).path
            with server.lock:
                server.calls[f"{self.command} {re.sub(r'.*/data/[^/]+(/namespaces/[^/]+/)?', '/', path)}"] += 1
                server.largest["request"] = max(server.largest["request"], len(raw))
            fault = server.fault(path)
            if fault:
                time.sleep(fault.slow)
                if fault.cut == "before":
                    return self.cut()
                if fault.status:
                    headers = {} if fault.retry_after is None else {"Retry-After": f"{fault.retry_after:g}"}
                    return self.send(Reply(_error(fault.status, "not now"), headers, fault.status))
            reply = self.reply(raw)
            if fault and fault.cut == "after":
                return self.cut()
            return self.send(reply)

        def reply(self, raw: bytes) -> Reply:
            try:
                if len(raw) > MAX_REQUEST:
                    raise RefusedError(413, f"{len(raw)} bytes; a request holds at most {MAX_REQUEST}")
                if len(self.path) > MAX_URL:
                    raise RefusedError(414, f"a URL of {len(self.path)} characters")
                if not self.headers.get("X-Pinecone-Api-Version"):
                    raise RefusedError(400, "no API version")
                parts = urlsplit(self.path)
                request = Request(self.command, parts.path, parse_qs(parts.query), orjson.loads(raw) if raw else {})
                return server.answer(request, self.headers.get("Api-Key"))
            except RefusedError as error:
                return Reply(_error(error.status, str(error)), status=error.status)

        def send(self, reply: Reply) -> None:
            body = orjson.dumps(reply.body)
            server.largest["reply"] = max(server.largest["reply"], len(body))
            if len(body) > MAX_REPLY:
                reply = Reply({}, status=400)
                body = orjson.dumps(_error(400, f"the reply would have {len(body)} bytes, more than {MAX_REPLY}"))
            self.send_response(reply.status)
            for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                if not (server.silent and "lsn" in name):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def cut(self) -> None:
            self.close_connection = True
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)

        do_GET = do_POST = do_PATCH = do_DELETE = serve  # noqa: N815

    return Handler


def _error(status: int, message: str) -> dict[str, Any]:
    return {"error": {"code": f"E{status}", "message": message}, "status": status}
