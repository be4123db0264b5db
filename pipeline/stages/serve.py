"""`serve`: an HTTP service and a page over an index, until it is told to stop.

Opens the gallery, loads the models, then listens; the room `serve` has everything else.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from pipeline.config import Config, ServeConfig
from pipeline.errors import UsageError
from pipeline.serve.extra import require_extra
from pipeline.workflow.gallery import open_gallery

TOKEN = "RELOOK_TOKEN"
_SHORTEST = 16


def serve(config: Config, listening: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; requests that are under way are finished.

    Args:
        config: `index`, `store`, `rerank`, `search` and `serve` matter here.
        listening: told the address once requests are answered.

    Raises:
        UsageError: the address can be reached from other machines, and there is neither a token nor `serve.insecure`.
        RelookError: the extra is not installed, the index or a model cannot be used, or the address is taken.
    """
    require_extra("serve")
    token = checked_token(config.serve)
    from pipeline.serve.app import make_app
    from pipeline.serve.listening import bind, run
    from pipeline.serve.service import Service

    listener = bind(config.serve)
    with listener:
        gallery = open_gallery(config)
        try:
            service = Service(gallery)
        except BaseException:
            gallery.close()
            raise
        run(make_app(service, token), listener, config.serve, listening)


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
