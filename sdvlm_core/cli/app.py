"""The command `sdvlm`: collects the subcommands; entry point of the console script.

Exit status 0 = success, 1 = error with the reason on stderr, 2 = wrong usage. With --json there
is exactly one JSON document on stdout, also for an error (`{"error": ...}`); everything else goes
to stderr. Does not know what a subcommand does; importing it loads no torch and no ROS.
"""

from __future__ import annotations

import signal
import sys
from typing import Annotated

import typer

from sdvlm_core import __version__, threads
from sdvlm_core.cli.ask import ask
from sdvlm_core.cli.bench import bench
from sdvlm_core.cli.doctor import doctor
from sdvlm_core.cli.mcp import mcp
from sdvlm_core.cli.measure import measure
from sdvlm_core.cli.models import convert, download
from sdvlm_core.cli.questions import PairCommand
from sdvlm_core.cli.read import read
from sdvlm_core.cli.replay import replay
from sdvlm_core.cli.serve import encoder, serve
from sdvlm_core.cli.view import view

_SIGTERM_STATUS = 128 + signal.SIGTERM  # the exit status that shells report

app = typer.Typer(
    name="sdvlm",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
    help="Measured answers to spatial questions about an RGB-D camera's image.",
)


def _version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    """Measured answers to spatial questions about an RGB-D camera's image."""


# In the order of --help.
app.command(cls=PairCommand)(ask)
for _command in (
    measure,
    view,
    mcp,
    read,
    replay,
    serve,
    encoder,
    download,
    convert,
    bench,
    doctor,
):
    app.command()(_command)


def main() -> None:
    """Entry point of the console script `sdvlm`."""
    # Unwind as SIGINT does, so that temporary files are removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(_SIGTERM_STATUS))
    threads.wait_passively()
    app()
