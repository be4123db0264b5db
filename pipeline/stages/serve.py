"""`serve`: an HTTP service and a page over an index, until it is told to stop.

Opens the gallery, loads the models, then listens; the room `serve` has everything else.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from types import FrameType
from typing import TYPE_CHECKING

from pipeline.config import Config, ServeConfig
from pipeline.errors import RelookError, UsageError
from pipeline.workflow.gallery import open_gallery

if TYPE_CHECKING:
    from fastapi import FastAPI

TOKEN = "RELOOK_TOKEN"
_SHORTEST = 16
_NEEDED = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")


def serve(config: Config, listening: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; requests that are under way are finished.

    Args:
        config: `index`, `store`, `rerank`, `search` and `serve` matter here.
        listening: told the address once requests are answered.

    Raises:
        UsageError: the address can be reached from other machines, and there is neither a token nor `serve.insecure`.
        RelookError: the extra is not installed, the index or a model cannot be used, or the address is taken.
    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise RelookError(f"serve needs {', '.join(missing)}; install: pip install 'relook[serve]'")
    token = checked_token(config.serve)
    from pipeline.serve.app import make_app
    from pipeline.serve.service import Service

    listener = _bound(config.serve)
    with listener:
        gallery = open_gallery(config)
        try:
            service = Service(gallery)
        except BaseException:
            gallery.close()
            raise
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        _run(make_app(service, token), listener, config.serve, lambda: listening(f"http://{shown}:{port}"))


def checked_token(settings: ServeConfig) -> str | None:
    """The token of the environment. Raises UsageError where one is needed, or where it can be guessed."""
    from pipeline.serve.guard import is_loopback

    token = os.environ.get(TOKEN) or None
    if token is not None and len(token) < _SHORTEST:
        raise UsageError(
            f"{TOKEN} has {len(token)} characters; use at least {_SHORTEST}, such as: openssl rand -hex 32"
        )
    if token is not None and not (token.isascii() and token.isprintable()):
        raise UsageError(f"{TOKEN} has characters that a header cannot hold; use letters and digits")
    if token is None and not settings.insecure and not is_loopback(settings.host):
        raise UsageError(
            f"serve.host = {settings.host}: other machines can reach it; set the variable {TOKEN}, "
            "or say --insecure where everybody may search and see the photos"
        )
    return token


def _bound(settings: ServeConfig) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        place = f"serve.host = {settings.host}, serve.port = {settings.port}"
        raise RelookError(f"{place}: cannot listen there ({error.strerror}); choose another --port or --host") from None
    return listener


def _run(app: FastAPI, listener: socket.socket, settings: ServeConfig, listening: Callable[[], None]) -> None:
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            """Says when it listens."""
            await super().startup(sockets)
            if self.started:
                listening()

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            """A signal ends the server, and the process with code 0."""

            def stop(number: int, frame: FrameType | None) -> None:
                self.handle_exit(number, frame)

            before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
            try:
                yield
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)

    server = Server(
        uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=settings.connections,
            timeout_graceful_shutdown=30,
            log_config=None,
        )
    )
    server.run(sockets=[listener])
