"""The figures of a trained nano (training.json) -> its model card.

Every figure of the card comes from the document. Does not compute scores.
"""

from __future__ import annotations

from typing import Any

from training.build.questions import MORE_TYPES, TYPES

_SHOWN = {
    "own": "unchanged input",
    "no_depth": "no depth",
    "wrong_intrinsics": "focal length x 1.5",
    "noise_0.1_m": "depth with 10 cm of noise",
    "shuffled_depth": "another frame's depth",
    "constant_depth": "a constant depth",
    "shuffled_frames": "another frame: image and depth",
    "blank": "a grey image, constant depth: only the question has information",
}
#: Types of the mean, then the others.
_COLUMNS = (*TYPES, *MORE_TYPES)


def _row(label: str, scores: dict[str, Any], columns: list[str]) -> str:
    low, high = scores["intervals"]["macro"]
    kinds = [scores["per_type"].get(kind, {}).get("success") for kind in columns]
    cells = ["-" if value is None else f"{value:.0f}" for value in kinds]
    return f"| {label} | **{scores['macro']:.1f}** ({low:.1f}-{high:.1f}) | {' | '.join(cells)} |"


def _table(document: dict[str, Any]) -> list[str]:
    scores = document["scores"]
    columns = [kind for kind in _COLUMNS if kind in scores["own"]["per_type"]]
    short = [kind.replace("_estimation", "").replace("_", " ") for kind in columns]
    lines = [f"| input | macro (95 %) | {' | '.join(short)} |", "|---" * (2 + len(columns)) + "|"]
    lines += [
        _row(label, scores[name], columns) for name, label in _SHOWN.items() if name in scores
    ]
    lines += [
        _row(f"unchanged input, seed {name.removeprefix('own_seed_')}", entry, columns)
        for name, entry in scores.items()
        if name.startswith("own_seed_")
    ]
    return lines


def _training(document: dict[str, Any]) -> list[str]:
    lines = []
    # A longer run of a seed begins with the frames of a shorter one.
    frames: dict[tuple[int, int], int] = {}
    for number, training in enumerate(document["trainings"], start=1):
        stages = training["stages"].values()
        minutes = sum(stage["minutes"] for stage in stages)
        data = training["data"]
        rendering = (data["seed"], data["width"])
        frames[rendering] = max(frames.get(rendering, 0), data["frames"])
        steps = ", ".join(f"{name} {s['steps']} steps" for name, s in training["stages"].items())
        place = f"{minutes:.0f} minutes on {training['machine']}"
        lines += [f"{number}. {data['frames']:,} frames; {steps}; {place}:", ""]
        lines += [f"   `{command}`" for command in training["commands"]]
        lines.append("")
    lines.append(f"In total {sum(frames.values()):,} distinct simulated frames.")
    return lines


def _outside(refused: dict[str, Any]) -> str:
    """What is known of questions that it cannot answer; "" = it was not asked any."""
    if "off_domain" not in refused:
        return ""
    asked = refused["off_domain"]
    return (
        f"\nIt refuses {asked['percent']:.1f} % of the questions that it cannot answer, about "
        f"weights, prices,\nthe weather, in other languages ({asked['refused']} of "
        f"{asked['asked']}). All questions are asked in phrasings\nthat are not in its training; "
        "the macro is the mean of the eight types of MSMU.\n"
    )


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
        outside=_outside(refused),
        training="\n".join(_training(document)),
    )


_CARD = """\
# nano

nano has the architecture of LLaVA with at most 8 million parameters. It was trained by
`training/nano` of this repository. Licence: Apache-2.0. Its purpose is to test all of sdvlm on any
machine, from the topics of a camera to a number with its confidence.

**It knows 18 household categories made of geometric primitives in ten colours, seen by a simulated
depth camera, and nothing else.** The scores below do not transfer to real rooms or to SD-VLM-7B,
because the domains differ. SD-VLM-7B has a score of 51 in scale estimation and 40 in absolute
distance on a benchmark of real scans.

## Scores

Percent of right answers by the rules of docs/definitions.md, for {asked:,} questions about scenes
of an unseen seed. Commands: `{scored_on}`, then
`python -m training.evaluate --model nano --benchmark DATA --out OUT`. The rows with another input
add `--depth`, `--intrinsics` or `--frames` (docs/evaluation.md lists these controls), and
`--limit 200`: they are about the first 200 scenes.

{table}

## Confidence and refusals

`confidence` is the probability that the answer is right by the rules above. It is calibrated
(`training.calibrate`) on simulated scenes with depth; without depth it is too high. The expected
calibration error is {all[ece]:.3f} over {all[answers]:,} answers about unseen scenes, and
{numbers[ece]:.3f} over the {numbers[answers]:,} numbers among them.

![Share of right answers by confidence](reliability.png)

nano refuses {false[percent]:.1f} % of the questions about objects that are not in the image
({false[refused]} of {false[asked]}). It refuses {real[percent]:.1f} % of the questions about
objects that are in the image ({real[refused]} of {real[asked]}).
{outside}
## Limits

- It was not trained on real images, other categories or colours, text in the image, or more than
  eight objects.
- Answers about small objects are not reliable: a patch of its vision tower is 1/12 of the longer
  side of the image.
- Counts are not reliable if objects hide each other.
- Without depth it estimates sizes and distances from appearance, with the status NO_DEPTH (see the
  row "no depth"). Do not act on these numbers.
- It was not trained on reasoning in several steps.

## Training

{training}

The frames differ in room, objects, light, textures, camera pose, field of view (45 to 85 degrees),
principal point, and in the noise, quantization, missing readings and range of the depth camera. In
the last training 12 % of the frames had no depth.
"""
