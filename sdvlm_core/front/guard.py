"""Who may talk to the page's server: host, origin and token of every request.

A page on another site can make a browser send requests here, also under a name of its own that it
points to this machine (DNS rebinding). So the Host header must name this server, a request that
changes something must come from this page, and a server that others can reach needs a token. Does
not know what is asked.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import socket
from collections.abc import Collection
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sdvlm_core.errors import QueryError

COOKIE = "sdvlm_view"
_MIN_TOKEN_CHARS = 16
_LOOPBACK_NAMES = frozenset(("localhost", "127.0.0.1", "::1"))
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-store",
}


@dataclass(frozen=True)
class Access:
    """Who may use a server.

    Attributes:
        names: host names that the server is reached under.
        any_address: an IP address in Host is right too; such a host cannot be rebound.
        token: "" = none is needed.
    """

    names: Collection[str] = _LOOPBACK_NAMES
    any_address: bool = False
    token: str = ""

    def is_token(self, text: str) -> bool:
        """Whether a text is the server's token; takes the same time for every wrong one."""
        return hmac.compare_digest(text.encode("utf-8", "replace"), self.token.encode())


def access_for(host: str, token: str = "") -> Access:
    """Who may use a server on this host; one that others can reach gets a token."""
    if is_loopback(host):
        return Access(token=token)
    own = socket.gethostname().lower()
    names = {*_LOOPBACK_NAMES, own, f"{own}.local", host.lower()}
    return Access(names, any_address=True, token=token or secrets.token_urlsafe(24))


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server on this host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def read_token(path: Path | None, variable: str) -> str:
    """The token of a file, else of an environment variable's value; "" = none.

    Raises:
        QueryError: the file cannot be read, or the token is short or not printable.
    """
    token = variable
    if path is not None:
        try:
            with path.open(encoding="utf-8") as file:
                token = file.read(4096)
        except (OSError, UnicodeDecodeError) as error:
            raise QueryError(f"the token file {path} cannot be read: {error}") from error
    token = token.strip()
    if (token or path is not None) and not (
        len(token) >= _MIN_TOKEN_CHARS and token.isascii() and token.isprintable()
    ):
        raise QueryError(f"a token has at least {_MIN_TOKEN_CHARS} printable ASCII characters")
    return token


class Guard:
    """The ASGI middleware that lets requests of `access` pass, and adds the security headers."""

    def __init__(self, app: ASGIApp, access: Access, open_paths: Collection[str]) -> None:
        self._app = app
        self._access = access
        self._open = frozenset(open_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with the reason of its refusal."""
        if scope["type"] != "http":
            return  # uvicorn's lifespan is off, and there are no websockets

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        headers = Headers(scope=scope)
        refused = self._refusal(scope, headers)
        if refused is not None:
            status, code, reason = refused
            body = {"error": {"code": code, "message": reason}}
            await JSONResponse(body, status)(scope, receive, with_headers)
            return
        await self._app(scope, receive, with_headers)

    def _refusal(self, scope: Scope, headers: Headers) -> tuple[int, str, str] | None:
        host = headers.get("host", "")
        if not self._is_own(host):
            return 421, "WRONG_HOST", "this server does not answer under that host name"
        site = headers.get("sec-fetch-site", "same-origin")
        if scope["method"] not in ("GET", "HEAD"):
            origin = headers.get("origin")
            if origin is not None and not self._is_of(origin, host):
                return 403, "WRONG_ORIGIN", "requests of other pages are refused"
            if site != "same-origin":
                return 403, "WRONG_ORIGIN", "requests of other pages are refused"
            kind = headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != "application/json":
                return 415, "INVALID_QUERY", "the body must be application/json"
        if scope["path"] not in self._open and not self._has_token(headers):
            return 401, "TOKEN_NEEDED", "give the token that `sdvlm view` printed"
        return None

    @staticmethod
    def _is_of(origin: str, host: str) -> bool:
        """Whether a request comes from a page of this server."""
        try:
            return urlsplit(origin).netloc.lower() == host.lower()
        except ValueError:
            return False

    def _is_own(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name in self._access.names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return self._access.any_address or address.is_loopback

    def _has_token(self, headers: Headers) -> bool:
        if not self._access.token:
            return True
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._access.is_token(bearer):
            return True
        try:
            cookie = SimpleCookie(headers.get("cookie", ""))
        except CookieError:
            return False
        return COOKIE in cookie and self._access.is_token(cookie[COOKIE].value)
