"""`sdvlm mcp`: the tools of agents, on stdin and stdout or by HTTP.

Does not know the tools (`front.agents`).
"""

from __future__ import annotations

import os
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated

import typer

from sdvlm_core.camera.settings import DEFAULT_SETTINGS
from sdvlm_core.cli import options
from sdvlm_core.cli.output import refusals
from sdvlm_core.errors import QueryError

#: Holds the token of a server that other machines reach.
TOKEN_VARIABLE = "SDVLM_MCP_TOKEN"
_NO_MODEL = "none"


def mcp(
    rgb: Annotated[Path | None, typer.Option(help="Colour image, 8 bit.")] = None,
    depth: Annotated[
        str | None, typer.Option(help=f"{options.DEPTH_HELP} With --bag: its topic.")
    ] = None,
    intrinsics: Annotated[Path | None, typer.Option(help=options.INTRINSICS_HELP)] = None,
    bag: Annotated[Path | None, typer.Option(help="A ROS 2 bag instead of image files.")] = None,
    time: Annotated[
        float | None,
        typer.Option(help="With --bag: seconds from its start; else the first complete frame."),
    ] = None,
    node: Annotated[
        str | None, typer.Option(help="A running node instead, e.g. /spatial_query; needs ROS 2.")
    ] = None,
    color: options.Color = None,
    info: options.Info = None,
    sync_slop: options.SyncSlop = 0.03,
    rectify: options.Rectify = DEFAULT_SETTINGS.rectify,
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
    http: Annotated[
        bool, typer.Option("--http", help="Streamable HTTP instead of stdin and stdout.")
    ] = False,
    host: Annotated[str, typer.Option(help="With --http: the address.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="With --http.", min=1, max=65535)] = 8766,
    token_file: Annotated[
        Path | None,
        typer.Option(
            help=f"With --http: a file with the token. Default: ${TOKEN_VARIABLE}. Needed for any "
            "host but 127.0.0.1."
        ),
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option(help="With --http: another host name or address that clients call."),
    ] = None,
) -> None:
    """Serve tools for agents (Model Context Protocol): capture, measure, ask, locate, and more.

    A client starts this command and talks to it on stdin and stdout; see docs/howto/agents.md. With
    --http it serves http://HOST:PORT/mcp.

    Examples:

      sdvlm mcp --node /spatial_query

      sdvlm mcp --rgb c.png --depth d.png --intrinsics k.json

      sdvlm mcp --bag demo/table --http
    """
    with refusals(as_json=False):
        _check_installed()
        from sdvlm_core.front import agent_serving
        from sdvlm_core.front.guard import read_token
        from sdvlm_core.front.source import Source, open_source

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
                settings=options.camera_settings(sensor, depth_scale, rectify),
            )
        except QueryError as error:
            raise typer.BadParameter(str(error)) from error
        address = None
        if http:
            token = read_token(token_file, os.environ.get(TOKEN_VARIABLE, ""))
            address = agent_serving.Address(host, port, token, tuple(name or ()))
        with redirect_stdout(sys.stderr):  # stdout is the protocol's
            loading = None
            if model != _NO_MODEL and node is None:
                from sdvlm_core.engine import LoadOptions

                loading = LoadOptions(model, device, dtype, quantization, attention)
            backend = open_source(source, loading, threads)
        if address is None:
            agent_serving.serve_stdio(backend)
        else:
            print(f"sdvlm mcp: {address.url}", file=sys.stderr, flush=True)
            agent_serving.serve_http(backend, address)


def _check_installed() -> None:
    try:
        import mcp  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise QueryError(
            f"the server needs mcp and uvicorn ({error}): pip install 'sdvlm-python[front]', or "
            "pip install -r requirements/front.txt"
        ) from error
