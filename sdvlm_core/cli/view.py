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
from sdvlm_core.errors import QueryError

if TYPE_CHECKING:
    from sdvlm_core.engine import LoadOptions
    from sdvlm_core.front.guard import Access

#: Holds the token of a server that other machines reach.
TOKEN_VARIABLE = "SDVLM_VIEW_TOKEN"
_NO_MODEL = "none"
_BACKLOG = 64
# Connections at the same time; a browser opens six.
_MAX_CONNECTIONS = 64
_SHUTDOWN_S = 2


def view(
    rgb: Annotated[Path | None, typer.Option(help="Colour image, 8 bit.")] = None,
    depth: Annotated[
        str | None, typer.Option(help=f"{options.DEPTH_HELP} With --bag: its topic.")
    ] = None,
    intrinsics: Annotated[Path | None, typer.Option(help=options.INTRINSICS_HELP)] = None,
    bag: Annotated[Path | None, typer.Option(help="A ROS 2 bag instead of image files.")] = None,
    time: Annotated[
        float | None, typer.Option(help="With --bag: the first frame shown, seconds.")
    ] = None,
    node: Annotated[
        str | None, typer.Option(help="A running node instead, e.g. /spatial_query; needs ROS 2.")
    ] = None,
    color: options.Color = None,
    info: options.Info = None,
    sync_slop: options.SyncSlop = 0.03,
    rectify: options.Rectify = "auto",
    gravity_frame: options.GravityFrame = "",
    depth_scale: options.DepthScale = None,
    up: options.Up = None,
    sensor: options.Sensor = "realsense",
    model: Annotated[
        str,
        typer.Option(help="nano, a model directory, the name of a download, or none = no model."),
    ] = "nano",
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    quantization: options.Quantization = "none",
    attention: options.Attention = "auto",
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
        _check_installed()
        from sdvlm_core.front.guard import access_for, read_token
        from sdvlm_core.front.source import Source, open_source

        settings = options.camera_settings(sensor, depth_scale, rectify)
        try:
            source = Source(
                rgb=rgb,
                depth=depth,
                intrinsics=intrinsics,
                bag=bag,
                time_s=time,
                node=node,
                color=color,
                info=info,
                sync_slop_s=sync_slop,
                gravity_frame=gravity_frame,
                depth_scale=depth_scale,
                up=options.parse_up(up),
                sensor=sensor,
                settings=settings,
            )
        except QueryError as error:
            raise typer.BadParameter(str(error)) from error
        access = access_for(host, read_token(token_file, os.environ.get(TOKEN_VARIABLE, "")))
        listener = _listener(host, port)
        backend = open_source(
            source, _model(model, device, dtype, quantization, attention), threads
        )
        from sdvlm_core.front.page import make_app

        try:
            print(f"sdvlm view: {_address(listener, host, access)}", flush=True)
            _serve(make_app(backend, source, access), listener)
        finally:
            backend.close()


def _check_installed() -> None:
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise QueryError(
            f"the page needs starlette and uvicorn ({error}): pip install 'sdvlm-python[front]', "
            "or pip install -r requirements/front.txt"
        ) from error


def _model(
    name: str, device: str, dtype: str, quantization: str, attention: str
) -> LoadOptions | None:
    if name == _NO_MODEL:
        return None
    from sdvlm_core.engine import LoadOptions

    return LoadOptions(name, device, dtype, quantization, attention)


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
