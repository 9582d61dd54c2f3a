"""`python -m training.merge ADAPTER OUT`: adapter + its base -> one directory that loads alone."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from sdvlm_core.errors import CheckpointError
from sdvlm_core.model.checkpoint import load


def merge(
    adapter: Annotated[Path, typer.Argument(help="OUT/adapter of training.finetune.")],
    out: Annotated[Path, typer.Argument(help="Directory for the whole model; must not exist.")],
    dtype: Annotated[str, typer.Option(help="Of the weights that are written.")] = "auto",
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
    unfinished = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    checkpoint.model.save_pretrained(unfinished)
    checkpoint.tokenizer.save_pretrained(unfinished)
    unfinished.rename(out)
    typer.echo(f"merged: {out}")


def main() -> None:
    """Entry point of `python -m training.merge`."""
    typer.run(merge)


if __name__ == "__main__":
    main()
