"""`python -m training.nano`: make nano from simulated frames, in two resumable stages.

    python -m training.simulate --scenes 40000 --seed 101 --width 256 --out runs/sim
    python -m training.nano --data runs/sim --out runs/nano

Stage 1 trains the vision tower on what each patch shows (`tower`), stage 2 trains projector and
language model on questions (`language`). The result is a directory that `sdvlm ask --model` loads.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import torch
import typer
from safetensors.torch import load_file, save_file
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig

from sdvlm_core.model import DepthEncodedLlava
from training.nano.frames import CELLS, ENCODING, PICTURE, load
from training.nano.language import train_language
from training.nano.tower import tower_features, train_tower
from training.nano.vocabulary import BOS, EOS, IMAGE, PAD, corpus, train_tokenizer

SEED = 0
_CORPUS_FRAMES = 3000


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


def make_nano(
    data: Annotated[Path, typer.Option(help="A folder of training.simulate.")],
    out: Annotated[Path, typer.Option(help="Folder for states, logs and the model.")],
    tower_steps: Annotated[int, typer.Option(min=1, help="Batches of 20 frames.")] = 2000,
    steps: Annotated[int, typer.Option(min=1, help="Batches of 8 frames x 27 questions.")] = 2100,
    shards: Annotated[int | None, typer.Option(min=1, help="Use only the first so many.")] = None,
) -> None:
    """Train nano and write it to OUT/model; run again to go on after an interruption."""
    out.mkdir(parents=True, exist_ok=True)
    frames = load(data, shards)
    graphs = zip(frames.graphs[:_CORPUS_FRAMES], frames.pixels.tolist(), strict=False)
    tokenizer = train_tokenizer(corpus(graphs))
    torch.manual_seed(SEED)
    model = DepthEncodedLlava(nano_config(len(tokenizer)))
    typer.echo(f"{len(frames)} frames, {model.num_parameters():,} parameters", err=True)
    tower, stored = model.model.vision_tower, out / "tower"
    # torch's fused attention is half as fast as plain products for this size on a CPU.
    tower.set_attn_implementation("eager")
    if stored.exists():
        tower.load_state_dict(type(tower).from_pretrained(stored).state_dict())
    else:
        train_tower(tower, frames, tower_steps, out, SEED)
        tower.save_pretrained(stored)
    # The tower must see in training what float16 weights will see in use.
    tower.half().float().requires_grad_(False)
    cached = out / "features.safetensors"
    if not cached.exists():
        save_file({"features": tower_features(tower, frames.picture)}, cached)
    features = load_file(cached)["features"]
    train_language(model, tokenizer, frames, features, steps, out, SEED)
    unfinished = out / "model.tmp"
    shutil.rmtree(unfinished, ignore_errors=True)
    model.half().save_pretrained(unfinished)
    tokenizer.save_pretrained(unfinished)
    shutil.rmtree(out / "model", ignore_errors=True)
    unfinished.rename(out / "model")
    typer.echo(f"nano is in {out / 'model'}")


if __name__ == "__main__":
    typer.run(make_nano)
