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
from sdvlm_core.cli.sources import model_of, need, source_of

#: Holds the token of a server that other machines reach.
TOKEN_VARIABLE = "SDVLM_MCP_TOKEN"


def mcp(
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
    rectify: options.Rectify = DEFAULT_SETTINGS.rectify,
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
        need("mcp", "uvicorn")
        from sdvlm_core.front import agent_serving
        from sdvlm_core.front.guard import read_token
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
        address = None
        if http:
            token = read_token(token_file, os.environ.get(TOKEN_VARIABLE, ""))
            address = agent_serving.Address(host, port, token, tuple(name or ()))
        with redirect_stdout(sys.stderr):  # stdout is the protocol's
            backend = open_source(source, loading, threads)
        if address is None:
            agent_serving.serve_stdio(backend)
        else:
            print(f"sdvlm mcp: {address.url}", file=sys.stderr, flush=True)
            agent_serving.serve_http(backend, address)
