"""`python -m training.finetune CONFIG`: fine-tune a model with depth code on conversations.

On one process, or one process a GPU under `accelerate launch` or `torchrun`. Holds the command
only; the run is `trainer`.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from sdvlm_core.errors import SdvlmError
from training.finetune.config import read_config, sharding_of
from training.finetune.trainer import train
from training.processes import exit_on_sigterm


def finetune(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A file of training/configs.")],
    sharding: Annotated[
        str | None, typer.Option(help="copy, zero2 or fsdp; overrides the file.")
    ] = None,
) -> None:
    """Fine-tune with LoRA or in full; run it again to resume from the latest checkpoint.

    Examples:

      python -m training.finetune training/configs/msmu_lora_7b.yaml

      accelerate launch --config_file training/configs/accelerate/eight_gpus.yaml
      -m training.finetune training/configs/msmu_lora_7b.yaml
    """
    try:
        chosen = read_config(config)
        if sharding is not None:
            chosen = replace(chosen, sharding=sharding_of(sharding))
        directory = train(chosen)
    except (SdvlmError, ValueError, FloatingPointError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    if int(os.environ.get("RANK", "0")) == 0:
        if not chosen.lora_rank:
            typer.echo(f"model: {directory}")
            return
        typer.echo(f"adapter and projector: {directory}")
        typer.echo(f"merge them into one model: python -m training.merge {directory} MODEL_DIR")


def main() -> None:
    """Entry point of `python -m training.finetune`."""
    exit_on_sigterm()
    typer.run(finetune)
