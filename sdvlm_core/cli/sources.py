"""What `sdvlm view` and `sdvlm mcp` serve: their source of frames and their model, from options.

Does not know the options' types and help (`options`), nor what is served.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import typer

from sdvlm_core.cli.options import NO_MODEL
from sdvlm_core.errors import QueryError

if TYPE_CHECKING:  # imports torch
    from sdvlm_core.engine import LoadOptions
    from sdvlm_core.front.source import Source


def need(*packages: str) -> None:
    """Raises QueryError, with what to install, if one of the optional packages is missing."""
    for name in packages:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise QueryError(
                f"this command needs {' and '.join(packages)} ({error}): pip install "
                "'sdvlm-python[front]', or pip install -r requirements/front.txt"
            ) from error


def source_of(**chosen: Any) -> Source:
    """The `front.source.Source` of the options; typer.BadParameter if they exclude each other."""
    from sdvlm_core.front.source import Source

    try:
        return Source(**chosen)
    except QueryError as error:
        raise typer.BadParameter(str(error)) from error


def model_of(
    name: str,
    device: str,
    dtype: str,
    quantization: str,
    attention: str,
    server: str,
    served_model: str,
) -> LoadOptions | None:
    """The model to load; None if --model says so."""
    if name == NO_MODEL:
        return None
    from sdvlm_core.engine import LoadOptions

    return LoadOptions(
        *(name, device, dtype, quantization, attention), server=server, served_model=served_model
    )
