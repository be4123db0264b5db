"""The routes of the service: search, images, the collection, health, metrics.

Each checks a request, hands it on, and turns what comes back into a document; the work is done elsewhere.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from enum import IntEnum
from typing import Annotated, Any

from fastapi import APIRouter, Form, Header, Path, Query, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.convertors import Convertor, register_url_convertor

from pipeline.errors import ImageError, RelookError, UsageError
from pipeline.serve.documents import (
    CollectionDocument,
    Health,
    ImagePage,
    OfferedReranker,
    Problem,
    Results,
    Value,
    results_of,
)
from pipeline.serve.engine import BusyError, OverdueError, Search, Stage
from pipeline.serve.forms import SearchForm, plan_of
from pipeline.serve.generations import Pinned
from pipeline.serve.guard import COOKIE, Token
from pipeline.serve.metrics import MEDIA_TYPE
from pipeline.serve.pictures import SIDES
from pipeline.serve.refusals import busy, refusal
from pipeline.serve.service import Service
from pipeline.workflow.hits import Hits


class Side(IntEnum):
    """Longest sides of a photo that can be requested."""

    S160, S320, S640, S1280, S2560 = SIDES


NDJSON = "application/x-ndjson"
# Of an address, which servers and proxies limit as a whole.
Short = Annotated[str, Query(max_length=500)]


class _AnyText(Convertor[str]):
    """An id: any text, slashes and line ends included."""

    regex = r"(?s:.+)"

    def convert(self, value: str) -> str:
        """As it is."""
        return value

    def to_string(self, value: str) -> str:
        """As it is."""
        return value


register_url_convertor("id", _AnyText())


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The documented failures of a route."""
    return {status: {"model": Problem} for status in statuses}


def make_routes(service: Service, token: Token | None) -> APIRouter:
    """All routes but the page's files."""
    router = APIRouter()
    _add_search(router, service)
    _add_images(router, service)
    _add_health(router, service)
    _add_session(router, token)
    return router


def _add_search(router: APIRouter, service: Service) -> None:
    failures = problems(400, 404, 408, 413, 422, 503)

    @router.post("/search", responses=failures, response_model=Results)
    async def search(form: Annotated[SearchForm, Form(media_type="multipart/form-data")]) -> Any:
        """Which images of the collection show the same thing as a photo, or as one of its images?"""
        documents = _documents(service, form, stages=False)
        try:
            return await anext(documents)
        finally:
            await documents.aclose()

    @router.post(
        "/search/stream",
        responses={**failures, 200: {"content": {NDJSON: {}}, "description": "A line of JSON per stage"}},
        response_class=Response,
    )
    async def search_in_stages(form: Annotated[SearchForm, Form(media_type="multipart/form-data")]) -> Any:
        """The same in stages, a document on a line each: the global results, the re-ranked ones, the reasons."""
        stages = _documents(service, form, stages=True)
        first = await anext(stages)
        if isinstance(first, Response):
            await stages.aclose()
            return first

        async def lines() -> AsyncIterator[bytes]:
            try:
                yield _line(first)
                async for document in stages:
                    yield bytes(document.body) + b"\n" if isinstance(document, Response) else _line(document)
            finally:
                await stages.aclose()

        return StreamingResponse(lines(), media_type=NDJSON, headers={"Cache-Control": "no-store"})


def _line(document: Results) -> bytes:
    return document.model_dump_json().encode() + b"\n"


async def _documents(service: Service, form: SearchForm, stages: bool) -> Any:
    """The documents of a search as they come, or one response that says why there is none."""
    started = time.monotonic()
    photo = None if form.image is None else await form.image.read()
    if photo is not None and len(photo) > service.settings.max_bytes:
        limit = f"{service.settings.max_bytes:,} bytes allowed (serve.max_bytes)"
        yield refusal(413, f"{len(photo):,} bytes, more than the {limit}")
        return
    again = True
    while again:
        pinned, again = service.generations.acquire(), False
        try:
            async with aclosing(_of_generation(service, pinned, form, photo, stages, started)) as documents:
                async for document in documents:
                    yield document
        except Exception as error:
            again = await asyncio.to_thread(service.generations.replaced, pinned, error)
            if not again:
                response = problem_of(error, service.settings.seconds)
                if response is None:
                    raise
                yield response
        finally:
            pinned.release()


async def _of_generation(
    service: Service, pinned: Pinned, form: SearchForm, photo: bytes | None, stages: bool, started: float
) -> AsyncGenerator[Results, None]:
    """The documents of a search of one generation."""
    loop, told = asyncio.get_running_loop(), asyncio.Queue[Stage | Exception]()

    def tell(what: Stage | Exception) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(told.put_nowait, what)

    plan = await asyncio.to_thread(plan_of, form, photo, pinned, stages)
    if plan is None:
        yield _nothing(form, pinned, time.monotonic() - started)
        return
    search = service.engine.submit(plan, pinned, tell)
    try:
        async for stage in _told(told, search):
            seconds = time.monotonic() - started
            yield await asyncio.to_thread(results_of, stage, plan.query.label, seconds, service.settings.near)
    finally:
        search.cancelled.set()


async def _told(told: asyncio.Queue[Stage | Exception], search: Search) -> AsyncIterator[Stage]:
    final = False
    while not final:
        left = max(0.0, search.deadline - time.monotonic())
        async with asyncio.timeout(left):
            what = await told.get()
        if isinstance(what, Exception):
            raise what
        yield what
        final = what.final


def _nothing(form: SearchForm, pinned: Pinned, seconds: float) -> Results:
    """The document of a search whose filters leave no image."""
    name = form.id or (form.image and form.image.filename) or "photo"
    hits = Hits(name, weights=pinned.gallery.index.card.weights)
    return results_of(Stage("global", hits, pinned, True), "", seconds, 1.0)


def problem_of(error: Exception, seconds: float) -> Response | None:
    """The response to an error that is the client's, or that passes; None: a defect."""
    if isinstance(error, BusyError):
        return busy()
    if isinstance(error, OverdueError | TimeoutError):
        return refusal(503, f"the search did not end within {seconds:g} seconds (serve.seconds)", retry_after="5")
    if isinstance(error, KeyError):
        return refusal(404, f"{str(error.args[0])[:200]!r} is not in the collection")
    if isinstance(error, ImageError):
        return refusal(422, f"the photo cannot be searched with: {error.reason}")
    if isinstance(error, UsageError):
        return refusal(422, str(error))
    if isinstance(error, RelookError):
        return refusal(503, str(error))
    return None


def _add_images(router: APIRouter, service: Service) -> None:
    @router.get("/images", response_model=ImagePage, responses=problems(400, 422))
    def images(
        text: Short = "",
        folder: Short = "",
        label: Annotated[list[Short], Query(max_length=20)] = [],  # noqa: B006  (FastAPI copies it)
        split: Annotated[list[Short], Query(max_length=20)] = [],  # noqa: B006
        offset: Annotated[int, Query(ge=0, le=2**31)] = 0,
        limit: Annotated[int, Query(ge=1, le=200)] = 48,
    ) -> Any:
        """The images of the collection, in the order in which they were added."""
        with service.generations.pinned() as pinned:
            total, rows = pinned.collection.page(text, folder.strip("/"), label, split, offset, limit)
        return {"total": total, "images": rows}

    @router.get(
        "/images/{id:id}",
        response_class=Response,
        responses={
            **problems(400, 404, 422, 503),
            200: {"content": {"image/jpeg": {}}, "description": "A JPEG without metadata"},
            304: {"description": "The client has it"},
        },
    )
    async def image(
        id: Annotated[str, Path(max_length=2000)],
        size: Annotated[Side | None, Query(description="longest side at most, in pixels")] = None,
        if_none_match: Annotated[str, Header(include_in_schema=False)] = "",
    ) -> Response:
        """A photo of the collection, upright and without metadata."""
        return await service.pictures.response(id, None if size is None else int(size), if_none_match)

    @router.get("/collection", response_model=CollectionDocument)
    def collection() -> Any:
        """What is searched, and what a search may request."""
        with service.generations.pinned() as pinned:
            return collection_of(pinned)


def collection_of(pinned: Pinned) -> CollectionDocument:
    """The document of a generation."""
    gallery, config, most = pinned.gallery, pinned.gallery.config, pinned.gallery.config.serve

    def values(found: list[tuple[str, int]]) -> list[Value]:
        return [Value(value=value, images=count) for value, count in found]

    return CollectionDocument(
        images=len(gallery),
        generation=pinned.number,
        model=gallery.index.card.name,
        weights=gallery.index.card.weights,
        labels=values(pinned.collection.labels),
        splits=values(pinned.collection.splits),
        folders=values(pinned.collection.folders),
        rerankers=[OfferedReranker(name=name, reason=reason) for name, reason in pinned.rerankers.items()],
        rerank=list(pinned.default),
        top_k=min(config.search.top_k, most.top_k),
        most={"top_k": most.top_k, "depth": most.depth, "bytes": most.max_bytes, "pixels": most.max_pixels},
    )


def _add_health(router: APIRouter, service: Service) -> None:
    @router.get("/healthz", response_model=Health)
    async def health() -> Any:
        """Whether the process runs."""
        return Health(status="ok")

    @router.get("/readyz", response_model=Health, responses={503: {"model": Health}})
    async def ready() -> Any:
        """Whether searches are answered."""
        reason = service.reason_against()
        if reason:
            return JSONResponse(Health(status="not ready", reason=reason).model_dump(), 503)
        return Health(status="ok")

    @router.get(
        "/metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}, "description": "Prometheus' text format"}},
    )
    async def metrics() -> Response:
        """Counters and gauges for Prometheus."""
        return Response(service.measured(), media_type=MEDIA_TYPE)


def _add_session(router: APIRouter, token: Token | None) -> None:
    @router.post("/session", status_code=204, response_class=Response, responses=problems(401))
    async def session(request: Request) -> Response:
        """Give a browser, whose pictures cannot have a header, a cookie in place of the token."""
        response = Response(status_code=204)
        if token is not None:
            if not token.fits(request.headers):
                return refusal(401, "this is not the token of the server")
            response.set_cookie(COOKIE, token.cookie, httponly=True, samesite="strict", path="/")
        return response
