"""`python -m training.nano`: make nano from simulated frames, in two resumable stages.

    python -m training.simulate --scenes 163840 --seed 202 --width 256 --out runs/sim
    torchrun --standalone --nproc-per-node 2 -m training.nano --data runs/sim --out runs/nano

Stage 1 trains the vision tower on what each patch shows (`tower`), stage 2 trains projector and
language model on questions (`language`). The result is a directory that `sdvlm ask --model` loads;
`training.calibrate` then teaches it what its confidence is worth, `training.nano.install` scores
it and puts it into the package.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, PreTrainedTokenizerFast

from sdvlm_core.model.backbones.llava import DepthEncodedLlava
from sdvlm_core.model.checkpoint import load as load_checkpoint
from training.nano import parallel
from training.nano.batches import FEW
from training.nano.frames import CELLS, ENCODING, PICTURE, TrainingFrames, load
from training.nano.language import Recipe, train_language
from training.nano.tower import normalise, train_tower
from training.nano.vocabulary import BOS, EOS, IMAGE, PAD, corpus, train_tokenizer
from training.run_config import check_unchanged

SEED = 0
_CORPUS_FRAMES = 3000
#: Of the frames, so that nano answers without depth, too.
WITHOUT_DEPTH = 0.12


def nano_config(vocabulary: int) -> LlavaConfig:
    """LLaVA's architecture, at most eight million parameters of it."""
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=192,
            intermediate_size=768,
            num_hidden_layers=6,
            num_attention_heads=6,
            image_size=PICTURE,
            patch_size=PICTURE // CELLS,
            hidden_act="gelu",
        ),
        text_config=LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=256,
            intermediate_size=640,
            num_hidden_layers=5,
            num_attention_heads=8,
            num_key_value_heads=8,
            max_position_embeddings=4096,
            tie_word_embeddings=True,
            initializer_range=0.05,
            pad_token_id=PAD,
            bos_token_id=BOS,
            eos_token_id=EOS,
        ),
        image_token_index=IMAGE,
        vision_feature_layer=-1,
        tie_word_embeddings=True,
    )
    config.depth_encoding = ENCODING.to_mapping()
    config.prompt_template = "raw"
    return config


def _start(
    base: str | None, frames: TrainingFrames
) -> tuple[DepthEncodedLlava, PreTrainedTokenizerFast]:
    """The model to train and its tokenizer: new ones, or those of a model to go on from."""
    torch.manual_seed(SEED)
    if base is not None:
        checkpoint = load_checkpoint(base, "cpu", "float32")
        checkpoint.model.config.calibration = None  # it was that of the old weights
        return checkpoint.model.requires_grad_(True), checkpoint.tokenizer
    graphs = zip(frames.graphs[:_CORPUS_FRAMES], frames.pixels.tolist(), strict=False)
    tokenizer = train_tokenizer(corpus(graphs))
    return DepthEncodedLlava(nano_config(len(tokenizer))), tokenizer


def make_nano(
    data: Annotated[Path, typer.Option(help="A folder of training.simulate.")],
    out: Annotated[Path, typer.Option(help="Folder for states, logs and the model.")],
    tower_steps: Annotated[int, typer.Option(min=0, help="Batches of 40 frames.")] = 4000,
    steps: Annotated[int, typer.Option(min=0, help="Batches of 32 frames x 14 questions.")] = 5120,
    shards: Annotated[int | None, typer.Option(min=1, help="Use only the first so many.")] = None,
    base: Annotated[
        str | None, typer.Option(help="Go on from this model (nano, or a directory).")
    ] = None,
    rate: Annotated[
        float, typer.Option(min=0.01, help="Factor on the learning rates; below 1 with --base.")
    ] = 1.0,
) -> None:
    """Train nano and write it to OUT/model; run again to go on after an interruption.

    Example, on two cores: torchrun --standalone --nproc-per-node 2 -m training.nano \\
    --data runs/sim --out runs/nano --base nano --rate 0.5
    """
    parallel.start()
    process, world = parallel.place()
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // world))
    if process > 0:
        parallel.wait()  # the first one prepares the frames
    frames = load(data, shards)
    begun = {"frames": len(frames), "tower_steps": tower_steps, "steps": steps, "base": base}
    try:
        check_unchanged(out, begun | {"rate": rate})
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if process == 0:
        parallel.wait()
    model, tokenizer = _start(base, frames)
    if process == 0:
        typer.echo(f"{len(frames)} frames, {model.num_parameters():,} parameters", err=True)
    tower = model.model.vision_tower
    # torch's fused attention is half as fast as plain products for this size on a CPU.
    tower.set_attn_implementation("eager")
    train_tower(tower, frames, tower_steps, out, SEED, rate)
    # The tower must see in training what float16 weights will see in use.
    tower.half().float().requires_grad_(False)

    @torch.inference_mode()
    def see(chosen: np.ndarray) -> torch.Tensor:
        pixels = normalise(torch.from_numpy(frames.picture[chosen]))
        with torch.autocast("cpu", torch.bfloat16):
            return tower(pixels).last_hidden_state[:, 1:].float()

    model.config.depth_encoding = ENCODING.to_mapping()
    recipe = Recipe(steps, 32, FEW, WITHOUT_DEPTH, rate, SEED)
    train_language(model, tokenizer, frames, see, recipe, out)
    if process > 0:
        return
    unfinished = out / "model.tmp"
    shutil.rmtree(unfinished, ignore_errors=True)
    model.half().save_pretrained(unfinished)
    tokenizer.save_pretrained(unfinished)
    shutil.rmtree(out / "model", ignore_errors=True)
    unfinished.rename(out / "model")
    typer.echo(f"nano is in {out / 'model'}")


if __name__ == "__main__":
    typer.run(make_nano)
