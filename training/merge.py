"""`python -m training.merge ADAPTER OUT`: adapter + base model -> one model directory.

Does not train or quantise.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sdvlm_core.errors import CheckpointError
from sdvlm_core.files import atomic_directory
from sdvlm_core.model.checkpoint import load, write_model


def merge(
    adapter: Annotated[Path, typer.Argument(help="OUT/adapter of training.finetune.")],
    out: Annotated[Path, typer.Argument(help="Directory of the merged model; must not exist.")],
    dtype: Annotated[str, typer.Option(help="Data type of the written weights.")] = "auto",
) -> None:
    """Write the model with the adapter merged into its weights, for `sdvlm ask --model OUT`.

    Example: python -m training.merge runs/msmu_lora_7b/adapter sd-vlm-mine
    """
    if out.exists():
        raise typer.BadParameter(f"{out} exists already; choose another name")
    try:
        checkpoint = load(str(adapter), "cpu", dtype)
    except CheckpointError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    with atomic_directory(out) as directory:
        write_model(checkpoint, directory)
    typer.echo(f"merged: {out}")


def main() -> None:
    """Entry point of `python -m training.merge`."""
    typer.run(merge)


if __name__ == "__main__":
    main()
