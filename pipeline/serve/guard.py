"""Who may call the service: the name it is called by, where a request comes from, and the token.

The first thing that sees a request (ASGI middleware). A page of another site can make a browser send requests here,
under this server's address or, by changing what its own name stands for, under that name: Host and Origin are checked.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.serve.refusals import refusal, refuse

COOKIE = "relook_session"
# Seen without a token: the page itself, which then asks for one, and whether the service is alive.
_OPEN = ("/", "/healthz", "/readyz", "/session")
_OPEN_BELOW = "/page/"

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


def is_loopback(host: str) -> bool:
    """Whether a name or an address can only be reached from this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Token:
    """The token of a service, and the cookie that a browser has instead of it. Comparisons take constant time."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()
        self.cookie = hmac.new(self._token, b"relook session", hashlib.sha256).hexdigest()

    def fits(self, headers: Headers) -> bool:
        """Whether a request has the token as a bearer, or the cookie."""
        scheme, _, given = headers.get("authorization", "").partition(" ")
        bearer = given.strip() if scheme.lower() == "bearer" else ""
        try:
            morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            morsel = None
        by_token = hmac.compare_digest(bearer.encode(), self._token)
        by_cookie = hmac.compare_digest((morsel.value if morsel else "").encode(), self.cookie.encode())
        return by_token or by_cookie


class Guard:
    """Refuses what must not be answered, and puts security headers on everything else.

    Args:
        app: what is behind.
        hosts: names that the server may be called by, without ports; empty: every name.
        token: None where there is none.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str], token: Token | None) -> None:
        self._app, self._hosts, self._token = app, hosts, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
            await send(message)

        refused = self._refusal(scope)
        if refused is None:
            await self._app(scope, receive, with_headers)
        else:
            await refuse(refused, scope, receive, with_headers)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self._hosts and _name_of(host) not in self._hosts:
            return refusal(421, f"host {host[:100]!r}: this server is not called by that name; see serve.hosts")
        if scope["method"] not in ("GET", "HEAD", "OPTIONS") and not _same_origin(headers, host):
            return refusal(403, "the request comes from a page of another site")
        path = scope["path"]
        if self._token and path not in _OPEN and not path.startswith(_OPEN_BELOW) and not self._token.fits(headers):
            return refusal(401, "a token is needed: Authorization: Bearer TOKEN", www_authenticate="Bearer")
        return None


def _same_origin(headers: Headers, host: str) -> bool:
    """Whether a request is of our own page, or of no page at all."""
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return False
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc == host


def _name_of(host: str) -> str:
    """The Host header without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
