"""Our forward pass against recorded outputs of the official one.

    python tests/parity/compare.py --checkpoint DIR --vision-tower DIR CASE.npz

Converts the released checkpoint to a temporary directory, loads it in parity mode, and runs the
recorded frame through the engine: estimated depth (`est`), sensor depth (`gt`), no depth (`none`).
Prints one JSON line with the largest absolute errors; exit status 1 if one exceeds --tolerance or
a greedy token differs. What the recording does not hold is not compared and not printed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sdvlm_core.engine import SpatialEngine
from sdvlm_core.frame import RgbdFrame
from sdvlm_core.model import conversion_plan, convert
from sdvlm_core.model.checkpoint import assembled, load_model
from sdvlm_core.model.depth_encoding import PARITY, pool
from sdvlm_core.model.devices import resolve
from sdvlm_core.model.generation_options import GenerationOptions
from sdvlm_core.model.prompt import Template

IMAGE = -200  # the release's mark for the image in input_ids


class RecordedIds:
    """A tokenizer that knows the recorded prompt only: text before the image, question after."""

    eos_token_id = 2
    unk_token_id = None
    all_special_ids = (1, 2)

    def __init__(self, input_ids: list[int], words: int) -> None:
        at = input_ids.index(IMAGE)
        self.bos_token_id = input_ids[0]
        self._pieces = {"before": input_ids[1:at], "question": input_ids[at + 1 :]}
        self._words = words

    def __len__(self) -> int:
        return self._words

    def encode(
        self, text: str, *, add_special_tokens: bool, split_special_tokens: bool = False
    ) -> list[int]:
        return self._pieces[text]

    def decode(self, ids: list[int], skip_special_tokens: bool = False) -> str:
        return " ".join(map(str, ids))


@contextmanager
def embeddings_seen(model: torch.nn.Module) -> Iterator[list[torch.Tensor]]:
    """What the language model is fed while the context is open, one tensor per call."""
    seen: list[torch.Tensor] = []
    hook = model.model.language_model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["inputs_embeds"][0].cpu()),
        with_kwargs=True,
    )
    try:
        yield seen
    finally:
        hook.remove()


def error(ours: torch.Tensor | np.ndarray, theirs: np.ndarray) -> float:
    """Largest absolute difference; infinite where shapes differ."""
    ours = np.asarray(ours, np.float64)
    theirs = np.asarray(theirs, np.float64).reshape(-1)
    return float(np.abs(ours.reshape(-1) - theirs).max()) if ours.size == theirs.size else np.inf


def frame_of(path: str, case: dict[str, np.ndarray]) -> RgbdFrame:
    if path == "est":
        return RgbdFrame(case["rgb"], case["inverse_depth"], depth_source="estimated_relative")
    if path == "gt":
        depth = case["gt_depth_m"]
        return RgbdFrame(case["rgb"], np.where(depth > 0, depth, np.nan).astype(np.float32))
    return RgbdFrame(case["rgb"])


def compare(
    model: Any, words: int, path: str, case: dict[str, np.ndarray], device: torch.device
) -> dict[str, Any]:
    """Errors of one path: est, gt or none."""
    kind = "none" if path == "none" else "relative"
    model.config.depth_encoding = replace(PARITY, kind=kind).to_mapping()
    tokenizer = RecordedIds(case["input_ids"].tolist(), words)
    checkpoint = replace(
        assembled("recorded", model, tokenizer, device), prompt_template=Template("before", "", "")
    )
    engine = SpatialEngine(checkpoint)
    frame = frame_of(path, case)
    tokens = checkpoint.backbone.token_pixels(frame.height, frame.width)
    image = slice(*(case["input_ids"].tolist().index(IMAGE) + np.array([0, len(tokens.row_of)])))
    # Recorded for one path, these follow for the others: embeddings = features + code.
    features = case["est_inputs_embeds"][image] - case["dpe"]
    embeddings = case.get(f"{path}_inputs_embeds")
    if embeddings is None:
        embeddings = case["est_inputs_embeds"].copy()
        embeddings[image] = features

    errors: dict[str, Any] = {}
    code = engine.depth_code(frame)
    if code is not None:
        errors["dpe"] = error(code.cpu(), embeddings[image] - features)
        grid = pool(frame.depth, None, PARITY, tokens, frame.depth_source)
        errors["grid"] = error(grid.coordinates, case[f"{path}_grid"])
    with embeddings_seen(model) as seen:
        session = engine.open(frame)
        logits = session.next_token_logits("question")
    errors["inputs_embeds"] = error(torch.cat(seen), embeddings)
    errors["logits_last"] = error(logits[:words].cpu(), case[f"{path}_logits_last"])
    recorded = case[f"{path}_generated"].tolist()
    answer = session.ask("question", GenerationOptions(max_new_tokens=len(recorded) - 1))
    generated = [int(token) for token in answer.text.split()]
    errors["tokens_match"] = generated == [t for t in recorded[1:] if t != tokenizer.eos_token_id]
    return errors


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("case", type=Path, help="recorded outputs, .npz")
    parser.add_argument("--checkpoint", type=Path, required=True, help="in the release's layout")
    parser.add_argument("--vision-tower", type=Path, help="CLIP directory; default: inside")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--tolerance", type=float, default=1e-4)
    arguments = parser.parse_args()
    with np.load(arguments.case, allow_pickle=False) as stored:
        case = dict(stored)
    with tempfile.TemporaryDirectory() as directory:
        plan = conversion_plan.plan(
            arguments.checkpoint, vision_tower=arguments.vision_tower, parity=True
        )
        convert.write(plan, Path(directory))
        model = load_model(Path(directory), resolve(arguments.device, "float32"))
        device = torch.device(arguments.device)
        paths = {
            path: compare(model, plan.words, path, case, device) for path in ("est", "gt", "none")
        }
    largest = max(
        value for errors in paths.values() for key, value in errors.items() if key != "tokens_match"
    )
    match = all(errors["tokens_match"] for errors in paths.values())
    ok = largest <= arguments.tolerance and match
    print(
        json.dumps(
            {
                "case": arguments.case.name,
                **paths,
                "max_error": largest,
                "tokens_match": match,
                "tolerance": arguments.tolerance,
                "ok": ok,
            }
        )
    )
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
