"""How the server of tools is reached: stdio, or streamable HTTP with its checks of who calls.

On a loopback address the SDK's Host and Origin checks keep web pages out. Any other address also
needs a token in every request. Does not know tools.
"""

from __future__ import annotations

import hmac
import os
import signal
import sys
from dataclasses import dataclass

import anyio
import uvicorn
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from mcp.server.transport_security import TransportSecuritySettings

from sdvlm_core.errors import QueryError
from sdvlm_core.front.agents import agents_server
from sdvlm_core.front.backend import Backend
from sdvlm_core.front.guard import access_for, is_loopback

#: Largest request, bytes: sixteen questions and their regions have less.
_MAX_REQUEST = 256 * 1024
_SHUTDOWN_S = 2
# At the same time.
_MAX_CONNECTIONS = 64


@dataclass(frozen=True)
class Address:
    """Where a server listens.

    Attributes:
        token: what every request must have in its header Authorization; "" = none is needed.
        names: host names by which clients call this server, besides `host` and the machine's name.

    Raises:
        QueryError: others can reach it, and it has no token.
    """

    host: str
    port: int
    token: str = ""
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.token and not is_loopback(self.host):
            raise QueryError(
                f"others can reach {self.host}: give --token-file or the environment variable with "
                "a secret, or leave --host out"
            )

    @property
    def url(self) -> str:
        """Of the server, for clients on this machine."""
        return f"http://{_bracketed(self.host)}:{self.port}/mcp"


def serve_stdio(backend: Backend) -> None:
    """Serve on stdin and stdout until end of file, SIGINT or SIGTERM."""
    server = agents_server(backend)

    async def end_on_signal() -> None:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as received:
            async for _ in received:
                backend.close()
                sys.stderr.flush()
                # A thread waits for stdin and cannot be interrupted; nothing is left to be done.
                os._exit(0)

    async def serve() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(end_on_signal)
            await server.run_stdio_async()
            tasks.cancel_scope.cancel()

    try:
        anyio.run(serve)
    finally:
        backend.close()


def serve_http(backend: Backend, address: Address) -> None:
    """Serve at the address until SIGINT or SIGTERM.

    Raises:
        SystemExit: the address cannot be bound; uvicorn has logged why.
    """
    auth, verifier = None, None
    if address.token:
        # There is no authorization server: the operator gives the token to the clients.
        auth = AuthSettings.model_validate({"issuer_url": address.url, "resource_server_url": None})
        verifier = _OneToken(address.token)
    server = agents_server(backend, auth, verifier)
    known = access_for(address.host, address.token).names
    hosts = [_bracketed(name) for name in (*known, *address.names)]
    app = server.streamable_http_app(
        host=address.host,
        max_request_body_size=_MAX_REQUEST,
        transport_security=TransportSecuritySettings(
            allowed_hosts=[*hosts, *(f"{name}:*" for name in hosts)],
            allowed_origins=[f"http://{name}:*" for name in hosts],
        ),
    )
    running = uvicorn.Server(
        uvicorn.Config(
            app,
            host=address.host,
            port=address.port,
            log_level="warning",
            ws="none",
            proxy_headers=False,
            server_header=False,
            limit_concurrency=_MAX_CONNECTIONS,
            timeout_graceful_shutdown=_SHUTDOWN_S,
        )
    )
    try:
        running.run()
    except (KeyboardInterrupt, SystemExit):
        if not running.started:
            raise
        # Ended by a signal, which uvicorn repeats.
    finally:
        backend.close()


class _OneToken:
    """Accepts one token."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()

    async def verify_token(self, token: str) -> AccessToken | None:
        """The caller, if its token is the right one."""
        if not hmac.compare_digest(token.encode(), self._token):
            return None
        return AccessToken(token=token, client_id="agent", scopes=[])


def _bracketed(host: str) -> str:
    """A host as it is in a URL."""
    return f"[{host}]" if ":" in host else host
