"""The application: routes, page and middleware around one service.

Made by the verb `serve`, and by tests; any ASGI server runs it.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from pipeline import __version__
from pipeline.config import ServeConfig
from pipeline.serve.guard import Guard, Token, is_loopback
from pipeline.serve.request_limits import Limits
from pipeline.serve.routes import make_routes, problems
from pipeline.serve.service import Service

logger = logging.getLogger("relook")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def make_app(service: Service, token: str | None = None) -> FastAPI:
    """The application of a service.

    Args:
        service: opened; it is closed when the application ends.
        token: that every request but for the page and its health needs; None: none.
    """
    known = Token(token) if token else None

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        service.close()

    app = FastAPI(
        title="relook",
        version=__version__,
        summary="Which images of a collection show the same thing as a photo?",
        docs_url=None,  # its page loads scripts of another site
        redoc_url=None,
        lifespan=life,
        responses=problems(401, 403) if known else problems(403),
    )
    app.include_router(make_routes(service, known))
    add_page(app, "index.html")
    add_handlers(app)
    app.add_middleware(Limits, settings=service.settings, full=lambda: service.engine.full, metrics=service.metrics)
    app.add_middleware(Guard, hosts=allowed_hosts(service.settings), token=known)
    return app


def allowed_hosts(settings: ServeConfig) -> frozenset[str]:
    """Names that the server may be called by; empty: every name, for a server that others reach and that names none."""
    if not settings.hosts and not is_loopback(settings.host):
        return frozenset()
    return frozenset({*_LOOPBACK, settings.host, *(name.lower() for name in settings.hosts)})


def add_page(app: FastAPI, name: str) -> None:
    """Serve a file of the folder `page` at "/", and what it loads below "/page"."""
    folder = str(files("pipeline.serve") / "page")

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(f"{folder}/{name}", headers={"Cache-Control": "no-cache"})

    app.mount("/page", StaticFiles(directory=folder), name="page")


def add_handlers(app: FastAPI) -> None:
    """Say every failure as a line of JSON."""

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        return JSONResponse({"error": "; ".join(map(_said, error.errors()[:5]))}, 422)

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> Response:
        return JSONResponse({"error": str(error.detail)}, error.status_code, headers=error.headers)

    @app.exception_handler(Exception)
    async def defect(_: Request, error: Exception) -> Response:
        return JSONResponse({"error": "a defect of relook; the log of the server has it"}, 500)


def _said(one: Any) -> str:
    """One mistake, as "field: what is wrong"."""
    field = ".".join(str(part) for part in one["loc"][1:])
    message = str(one["msg"]).removeprefix("Value error, ")
    return f"{field}: {message}" if field else message
