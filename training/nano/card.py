"""The figures of a trained nano (training.json) -> its model card.

Every figure of the card comes from the document. Does not compute scores.
"""

from __future__ import annotations

from typing import Any

from training.build.questions import TYPES

_SHOWN = {
    "own": "its own frame",
    "no_depth": "no depth at all",
    "wrong_intrinsics": "a focal length 1.5 times too long",
    "noise_0.1_m": "depth with 10 cm of noise",
    "shuffled_depth": "another frame's depth",
    "constant_depth": "a constant depth",
    "shuffled_frames": "another frame altogether",
    "blank": "a grey picture, constant depth: answers from the question alone",
}


def _row(label: str, scores: dict[str, Any]) -> str:
    low, high = scores["intervals"]["macro"]
    kinds = [scores["per_type"].get(kind, {}).get("success") for kind in TYPES]
    cells = ["-" if value is None else f"{value:.0f}" for value in kinds]
    return f"| {label} | **{scores['macro']:.1f}** ({low:.1f}-{high:.1f}) | {' | '.join(cells)} |"


def _table(document: dict[str, Any]) -> list[str]:
    scores = document["scores"]
    short = [kind.replace("_estimation", "").replace("_", " ") for kind in TYPES]
    lines = [f"| input | macro (95 %) | {' | '.join(short)} |", "|---" * (2 + len(TYPES)) + "|"]
    lines += [_row(label, scores[name]) for name, label in _SHOWN.items() if name in scores]
    lines += [
        _row(f"its own frame, seed {name.removeprefix('own_seed_')}", entry)
        for name, entry in scores.items()
        if name.startswith("own_seed_")
    ]
    return lines


def _training(document: dict[str, Any]) -> list[str]:
    lines = []
    wall = busy = 0.0
    # A longer run of a seed begins with the frames of a shorter one.
    frames: dict[tuple[int, int], int] = {}
    for number, training in enumerate(document["trainings"], start=1):
        stages = training["stages"].values()
        wall += sum(stage["minutes"] for stage in stages)
        busy += sum(stage["cpu_minutes"] for stage in stages)
        data = training["data"]
        rendering = (data["seed"], data["width"])
        frames[rendering] = max(frames.get(rendering, 0), data["frames"])
        steps = ", ".join(f"{name} {s['steps']} steps" for name, s in training["stages"].items())
        lines += [f"{number}. {data['frames']:,} frames; {steps}; {training['machine']}:", ""]
        lines += [f"   `{command}`" for command in training["commands"]]
        lines.append("")
    lines.append(
        f"Together {sum(frames.values()):,} distinct simulated frames, {wall / 60:.1f} hours on "
        f"two CPU cores ({busy / 60:.1f} CPU hours), no GPU."
    )
    return lines


def model_card(document: dict[str, Any]) -> str:
    """The card as markdown."""
    own = document["scores"]["own"]
    trust, refused = own["reliability"], own["refusals"]
    return _CARD.format(
        asked=own["asked"],
        scored_on=document["scored_on"],
        table="\n".join(_table(document)),
        all=trust["all"],
        numbers=trust["numbers"],
        false=refused["false_premise"],
        real=refused["real"],
        training="\n".join(_training(document)),
    )


_CARD = """\
# nano

LLaVA's architecture with at most 8 million parameters, trained by `training/nano` of this
repository, Apache-2.0. It exists to try and test the whole path, from a camera's topics to a number
with its confidence, on any machine.

**It knows 18 household categories made of geometric primitives in ten colours, seen by a simulated
depth camera, and nothing else.** The scores below do not transfer to real rooms or to
SD-VLM-7B, which scores 51 in scale estimation and 40 in absolute distance on a benchmark of real
scans: the domains differ.

## Scores

Percent right by the rules of docs/definitions.md, {asked:,} questions about scenes of an unseen
seed (`{scored_on}`, then
`python -m training.evaluate --model nano --benchmark DATA --out OUT`, with `--depth`,
`--intrinsics` and `--frames` for the rows below the first):

{table}

## Confidence and refusals

`confidence` is calibrated (`training.calibrate`): over {all[answers]:,} answers about unseen scenes
its expected calibration error is {all[ece]:.3f}; over the {numbers[answers]:,} numbers among them
it is {numbers[ece]:.3f}. It is the probability that the answer is right by the rules above, in this
simulated world and with depth; without depth it is too high.

![Share of right answers by confidence](reliability.png)

A question about an object that is not in the picture is refused {false[percent]:.1f} % of the time
({false[refused]} of {false[asked]}); a question about an object that is in the picture is refused
{real[percent]:.1f} % of the time ({real[refused]} of {real[asked]}).

## What it cannot do

- Real pictures, other categories or colours, text in the picture, more than eight objects.
- Small objects: a patch of its tower is 1/12 of the picture's longer side.
- Reliable counts when objects hide each other.
- Measurements without depth: it answers from appearance alone, with the status NO_DEPTH (see the
  row above); do not act on those numbers.
- Reasoning in several steps, and questions outside of MSMU's eight types.

## Training

{training}

The frames differ in room, objects, light, textures, camera pose, field of view (45 to 85 degrees),
principal point, and in the noise, steps, holes and range of the depth camera. Of the last
training's frames 12 % had their depth removed.
"""
