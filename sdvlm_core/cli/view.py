"""`sdvlm view`: a page in the browser that shows frames, measures what is pointed at, and asks.

Parses options, binds the address and runs the server. Does not know what the page does
(`front.page`).
"""

from __future__ import annotations

import logging
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sdvlm_core.cli import options
from sdvlm_core.cli.output import refusals
from sdvlm_core.cli.sources import model_of, need, source_of
from sdvlm_core.errors import QueryError

if TYPE_CHECKING:
    from sdvlm_core.front.guard import Access

#: Holds the token of a server that other machines reach.
TOKEN_VARIABLE = "SDVLM_VIEW_TOKEN"
_BACKLOG = 64
# Connections at the same time; a browser opens six.
_MAX_CONNECTIONS = 64
_SHUTDOWN_S = 2


def view(
    rgb: options.FilesRgb = None,
    depth: options.FilesDepth = None,
    intrinsics: options.FilesIntrinsics = None,
    bag: options.Bag = None,
    time: options.BagTime = None,
    node: options.Node = None,
    camera: options.NodeCamera = "",
    color: options.Color = None,
    info: options.Info = None,
    sync_slop: options.SyncSlop = 0.03,
    rectify: options.Rectify = "auto",
    gravity_frame: options.GravityFrame = "",
    depth_scale: options.DepthScale = None,
    up: options.Up = None,
    sensor: options.Sensor = "realsense",
    model: options.ModelOrNone = "nano",
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    quantization: options.Quantization = "none",
    attention: options.Attention = "auto",
    server: options.Server = "",
    served_model: options.ServedModel = "",
    threads: options.Threads = 0,
    host: Annotated[
        str,
        typer.Option(help="Address to bind. Any but 127.0.0.1 lets others in, with a token."),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 = a free one.")] = 0,
    token_file: Annotated[
        Path | None,
        typer.Option(
            help=f"A file with the token. Default: ${TOKEN_VARIABLE}, else a new one if the host "
            "needs it."
        ),
    ] = None,
) -> None:
    """Show frames in a page: click or drag a box and it is measured; type a question.

    Prints the page's address and serves it until Ctrl-C; opens nothing by itself. Needs
    requirements/front.txt, or pip install 'sdvlm-python\\[front]'.

    Examples:

      sdvlm view --rgb c.png --depth d.png --intrinsics k.json

      sdvlm view --bag demo/table --sensor simulated

      sdvlm view --node /spatial_query --host 0.0.0.0 --port 8080
    """
    with refusals(as_json=False):
        need("starlette", "uvicorn")
        from sdvlm_core.front.guard import access_for, read_token
        from sdvlm_core.front.source import open_source

        source = source_of(
            rgb=rgb,
            depth=depth,
            intrinsics=intrinsics,
            bag=bag,
            time_s=time,
            node=node,
            camera=camera,
            color=color,
            info=info,
            sync_slop_s=sync_slop,
            gravity_frame=gravity_frame,
            depth_scale=depth_scale,
            up=options.parse_up(up),
            sensor=sensor,
            settings=options.camera_settings(sensor, depth_scale, rectify),
        )
        loading = None  # a node has its own, and a client need not wait for torch
        if node is None:
            loading = model_of(
                *(model, device, dtype, quantization, attention), server, served_model
            )
        access = access_for(host, read_token(token_file, os.environ.get(TOKEN_VARIABLE, "")))
        listener = _listener(host, port)
        backend = open_source(source, loading, threads)
        from sdvlm_core.front.page import make_app

        try:
            print(f"sdvlm view: {_address(listener, host, access)}", flush=True)
            _serve(make_app(backend, source, access), listener)
        finally:
            backend.close()


def _listener(host: str, port: int) -> socket.socket:
    """A listening socket; QueryError if the address cannot be bound."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except (OSError, UnicodeError) as error:
        raise QueryError(f"cannot listen on {host} port {port}: {error}") from error


def _address(listener: socket.socket, host: str, access: Access) -> str:
    """The page's address; the token is in its fragment, which browsers do not send."""
    port = listener.getsockname()[1]
    name = socket.gethostname() if host in ("0.0.0.0", "::") else host
    name = f"[{name}]" if ":" in name else name
    return f"http://{name}:{port}/" + (f"#token={access.token}" if access.token else "")


def _serve(app: object, listener: socket.socket) -> None:
    """Serve until SIGINT or SIGTERM."""
    import uvicorn

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    config = uvicorn.Config(
        app,  # type: ignore[arg-type]
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        http="h11",
        proxy_headers=False,
        server_header=False,
        limit_concurrency=_MAX_CONNECTIONS,
        timeout_graceful_shutdown=_SHUTDOWN_S,
    )
    try:
        uvicorn.Server(config).run(sockets=[listener])
    except KeyboardInterrupt:
        return  # the way to end it; uvicorn raises it again after it has shut down
