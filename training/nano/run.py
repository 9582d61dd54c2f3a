"""`python -m training.nano CONFIG`: make nano from simulated frames, in two resumable stages.

    python -m training.simulate --scenes 65536 --seed 303 --width 256 --out runs/sim303
    torchrun --standalone --nproc-per-node 2 -m training.nano training/configs/nano.yaml

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
from transformers import LlavaForConditionalGeneration, PreTrainedTokenizerFast

from sdvlm_core.errors import CheckpointError
from sdvlm_core.files import atomic_directory
from sdvlm_core.model.checkpoint import load as load_checkpoint
from training.loop import parallel
from training.nano.architecture import DIALECT, ENCODING, PROMPT, nano_config
from training.nano.batches import WIDE
from training.nano.config import NanoConfig, read_config
from training.nano.frames import TrainingFrames, load
from training.nano.language import Recipe, train_language
from training.nano.precision import autocast
from training.nano.tower import normalise, train_tower
from training.nano.vocabulary import corpus, extended, train_tokenizer
from training.processes import exit_on_sigterm
from training.run_config import check_unchanged

_SEED = 0
_CORPUS_FRAMES = 3000
#: Share of the frames shown without depth, so that nano also answers without it.
_WITHOUT_DEPTH = 0.12


def _initial_model(
    base: str, frames: TrainingFrames
) -> tuple[LlavaForConditionalGeneration, PreTrainedTokenizerFast]:
    """The model to train and its tokenizer: new ones, or those of the model `base`; "" = new."""
    torch.manual_seed(_SEED)
    graphs = zip(frames.graphs[:_CORPUS_FRAMES], frames.pixels.tolist(), strict=False)
    lines = corpus(graphs)
    if base:
        checkpoint = load_checkpoint(base, "cpu", "float32")
        checkpoint.model.config.calibration = None  # fitted to the weights before training
        checkpoint.model.config.prompt_template = PROMPT
        checkpoint.model.config.dialect = DIALECT
        tokenizer, pieces = extended(checkpoint.tokenizer, lines)
        _add_tokens(checkpoint.model, pieces)
        return checkpoint.model.requires_grad_(True), tokenizer
    tokenizer = train_tokenizer(lines)
    return LlavaForConditionalGeneration(nano_config(len(tokenizer))), tokenizer


@torch.no_grad()
def _add_tokens(model: LlavaForConditionalGeneration, pieces: list[list[int]]) -> None:
    """A row of the embedding for each new token: the mean of what its text was before."""
    known = model.get_input_embeddings().weight.shape[0]
    model.resize_token_embeddings(known + len(pieces), mean_resizing=False)
    weight = model.get_input_embeddings().weight
    for row, ids in enumerate(pieces, start=known):
        weight[row] = weight[ids].mean(0)


def make_nano(config: NanoConfig, device: str = "auto", workers: int | None = None) -> None:
    """Train nano and write it to OUT/model; resumes after an interruption.

    Args:
        device: auto, cpu, cuda or cuda:N; several processes use one GPU each.
        workers: processes that make batches for each training process; None = as suits the device.

    Raises:
        CheckpointError: the device does not exist.
        ValueError: OUT belongs to a run with other settings.
        FloatingPointError: a loss or a gradient is not finite.
    """
    parallel.join_processes()
    process, world = parallel.rank_and_world()
    where = parallel.own_device(device)
    workers = parallel.workers_beside(where, world) if workers is None else workers
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // world))
    if process > 0:
        parallel.barrier()  # the first process prepares the frames
    frames = load(config.data, config.shards or None)
    check_unchanged(config.out, config.recipe() | {"frames": len(frames)})
    if process == 0:
        parallel.barrier()
    model, tokenizer = _initial_model(config.base, frames)
    if process == 0:
        typer.echo(f"{len(frames)} frames, {model.num_parameters():,} parameters", err=True)
    _train(model.to(where), tokenizer, frames, config, workers)
    if process == 0:
        with atomic_directory(config.out / "model") as directory:
            model.half().save_pretrained(directory)
            tokenizer.save_pretrained(directory)
        typer.echo(f"model: {config.out / 'model'}")


def nano(
    config_file: Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML file.")],
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Train nano and write it to OUT/model; run it again to resume after an interruption.

    Example, on two cores: torchrun --standalone --nproc-per-node 2 -m training.nano \\
    training/configs/nano.yaml
    """
    try:
        make_nano(read_config(config_file), device)
    except (ValueError, CheckpointError) as error:
        raise typer.BadParameter(str(error)) from error
    except FloatingPointError as error:
        typer.echo(f"error: {error}; lower `rate`, then run it with another `out`", err=True)
        raise typer.Exit(1) from error


def _train(
    model: LlavaForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    frames: TrainingFrames,
    config: NanoConfig,
    workers: int,
) -> None:
    """Both stages, in place."""
    tower, device = model.model.vision_tower, model.device
    if device.type == "cpu":
        # At this size torch's fused attention is half as fast there as plain products.
        tower.set_attn_implementation("eager")
    train_tower(tower, frames, config.tower_steps, config.out, _SEED, config.rate)
    # Round the tower to float16: stage 2 must see the features that the released weights give.
    tower.half().float().requires_grad_(False)

    @torch.inference_mode()
    def see(chosen: npt.NDArray[np.int64]) -> torch.Tensor:
        pixels = normalise(torch.from_numpy(frames.picture[chosen]).to(device))
        with autocast(device):
            features: torch.Tensor = tower(pixels).last_hidden_state[:, 1:].float()
        return features

    model.config.depth_encoding = ENCODING.to_mapping()
    train_language(
        model,
        tokenizer,
        frames,
        see,
        Recipe(config.steps, config.batch, WIDE, _WITHOUT_DEPTH, config.rate, _SEED),
        config.out,
        workers=workers,
    )


def main() -> None:
    """Entry point of `python -m training.nano`."""
    exit_on_sigterm()
    typer.run(nano)
