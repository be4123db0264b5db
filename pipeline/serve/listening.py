"""Listening on an address until a signal ends it: around the application of `serve`, and that of `label`.

The socket is bound before the models are loaded, so that an address which is taken is said at once.
"""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Callable, Iterator
from types import FrameType

import uvicorn
from fastapi import FastAPI

from pipeline.config import ServeConfig
from pipeline.errors import RelookError


def bind(settings: ServeConfig) -> socket.socket:
    """A socket at the address of the settings. Raises RelookError where it is taken."""
    try:
        family, _, _, _, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        place = f"serve.host = {settings.host}, serve.port = {settings.port}"
        raise RelookError(f"{place}: cannot listen there ({error.strerror}); choose another --port or --host") from None
    return listener


def run(app: FastAPI, listener: socket.socket, settings: ServeConfig, listening: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; requests that are under way are finished.

    Args:
        app: the application.
        listener: of `bind`.
        settings: how many connections may be open.
        listening: told the address once requests are answered.
    """
    host, port = listener.getsockname()[:2]
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            """Says when it listens."""
            await super().startup(sockets)
            if self.started:
                listening(address)

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
