"""`python -m training.nano`: make nano from simulated frames, in two resumable stages.

    python -m training.simulate --scenes 163840 --seed 202 --width 256 --out runs/sim
    torchrun --standalone --nproc-per-node 2 -m training.nano --data runs/sim --out runs/nano

Stage 1 trains the vision tower on the content of each patch (`tower`), stage 2 trains projector and
language model on questions (`language`). The result is a directory that `sdvlm ask --model` loads;
`training.calibrate` then calibrates its confidence, `training.nano.install` scores it and puts it
into the package. Holds the command only.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import torch
import typer
from transformers import PreTrainedTokenizerFast

from sdvlm_core.files import atomic_directory
from sdvlm_core.model.backbones.llava import DepthEncodedLlava
from sdvlm_core.model.checkpoint import load as load_checkpoint
from training.nano import parallel
from training.nano.architecture import ENCODING, PROMPT, nano_config
from training.nano.batches import WIDE
from training.nano.frames import TrainingFrames, load
from training.nano.language import Recipe, train_language
from training.nano.tower import normalise, train_tower
from training.nano.vocabulary import corpus, train_tokenizer
from training.processes import exit_on_sigterm
from training.run_config import check_unchanged

_SEED = 0
_CORPUS_FRAMES = 3000
#: Frames of a step of stage 2.
BATCH = 32
#: Share of the frames shown without depth, so that nano also answers without it.
_WITHOUT_DEPTH = 0.12


def _initial_model(
    base: str | None, frames: TrainingFrames
) -> tuple[DepthEncodedLlava, PreTrainedTokenizerFast]:
    """The model to train and its tokenizer: new ones, or those of the model `base`."""
    torch.manual_seed(_SEED)
    if base is not None:
        checkpoint = load_checkpoint(base, "cpu", "float32")
        checkpoint.model.config.calibration = None  # fitted to the weights before training
        checkpoint.model.config.prompt_template = PROMPT
        return checkpoint.model.requires_grad_(True), checkpoint.tokenizer
    graphs = zip(frames.graphs[:_CORPUS_FRAMES], frames.pixels.tolist(), strict=False)
    tokenizer = train_tokenizer(corpus(graphs))
    return DepthEncodedLlava(nano_config(len(tokenizer))), tokenizer


def make_nano(
    data: Annotated[Path, typer.Option(help="A folder of training.simulate.")],
    out: Annotated[Path, typer.Option(help="Folder for checkpoints, logs and the model.")],
    tower_steps: Annotated[int, typer.Option(min=0, help="Batches of 40 frames.")] = 4000,
    steps: Annotated[int, typer.Option(min=0, help="Batches of 32 frames x 14 questions.")] = 5120,
    shards: Annotated[int | None, typer.Option(min=1, help="Use only the first N shards.")] = None,
    base: Annotated[
        str | None, typer.Option(help="Continue training this model (nano, or a directory).")
    ] = None,
    rate: Annotated[
        float, typer.Option(min=0.01, help="Factor on the learning rates; below 1 with --base.")
    ] = 1.0,
) -> None:
    """Train nano and write it to OUT/model; run it again to resume after an interruption.

    Example, on two cores: torchrun --standalone --nproc-per-node 2 -m training.nano \\
    --data runs/sim --out runs/nano --base nano --rate 0.5
    """
    parallel.join_processes()
    process, world = parallel.rank_and_world()
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // world))
    if process > 0:
        parallel.barrier()  # the first process prepares the frames
    frames = load(data, shards)
    recipe = {"frames": len(frames), "tower_steps": tower_steps, "steps": steps, "base": base}
    try:
        check_unchanged(out, recipe | {"rate": rate})
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if process == 0:
        parallel.barrier()
    model, tokenizer = _initial_model(base, frames)
    if process == 0:
        typer.echo(f"{len(frames)} frames, {model.num_parameters():,} parameters", err=True)
    try:
        _train(model, tokenizer, frames, tower_steps, steps, rate, out)
    except FloatingPointError as error:
        typer.echo(f"error: {error}; lower --rate, then run it again with another --out", err=True)
        raise typer.Exit(1) from error
    if process == 0:
        with atomic_directory(out / "model") as directory:
            model.half().save_pretrained(directory)
            tokenizer.save_pretrained(directory)
        typer.echo(f"model: {out / 'model'}")


def _train(
    model: DepthEncodedLlava,
    tokenizer: PreTrainedTokenizerFast,
    frames: TrainingFrames,
    tower_steps: int,
    steps: int,
    rate: float,
    out: Path,
) -> None:
    """Both stages, in place."""
    tower = model.model.vision_tower
    # At this size on a CPU, torch's fused attention is half as fast as plain products.
    tower.set_attn_implementation("eager")
    train_tower(tower, frames, tower_steps, out, _SEED, rate)
    # Round the tower to float16: stage 2 must see the features that the released weights give.
    tower.half().float().requires_grad_(False)

    @torch.inference_mode()
    def see(chosen: npt.NDArray[np.int64]) -> torch.Tensor:
        pixels = normalise(torch.from_numpy(frames.picture[chosen]))
        with torch.autocast("cpu", torch.bfloat16):
            features: torch.Tensor = tower(pixels).last_hidden_state[:, 1:].float()
        return features

    model.config.depth_encoding = ENCODING.to_mapping()
    train_language(
        model,
        tokenizer,
        frames,
        see,
        Recipe(steps, BATCH, WIDE, _WITHOUT_DEPTH, rate, _SEED),
        out,
    )


def main() -> None:
    """Entry point of `python -m training.nano`."""
    exit_on_sigterm()
    typer.run(make_nano)
