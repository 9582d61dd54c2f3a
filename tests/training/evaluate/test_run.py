"""A whole evaluation on small local copies: controls, resuming, judges, refusals, failures."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer

from sdvlm_core.engine import SpatialEngine
from sdvlm_core.errors import DepthError, IntrinsicsError
from sdvlm_core.frame import CameraIntrinsics, RgbdFrame, depth_in_metres
from sdvlm_core.model.checkpoint import NANO_DIRECTORY, load
from tests.paths import ROOT
from tests.tiny_checkpoint import write_tiny_checkpoint
from tests.training.chat_server import chatting
from training.data.schemas import CONVERSATIONS
from training.evaluate.controls import Controls, shown
from training.evaluate.outputs import ANSWERS, JUDGED, REPORT, SCORES
from training.evaluate.predict import answers_of
from training.evaluate.run import evaluate

K = CameraIntrinsics(140.0, 140.0, 79.5, 59.5, 160, 120)
ASKED = [
    ("scale_estimation", "What is the height of the red box?", "0.4 m."),
    ("count", "How many boxes are there in the image?", "2."),
    ("absolute_distance", "What is the distance between the red box and the blue box?", "0.8 m."),
    ("existence", "Is there a white lamp in the image?", "No."),
]


def picture(seed=0):
    """A room of rectangles: (rgb, depth in millimetres)."""
    rng = np.random.default_rng(seed)
    rgb = np.full((120, 160, 3), 190, np.uint8)
    depth = np.full((120, 160), 3000, np.uint16)
    for colour in ((200, 40, 40), (40, 60, 200)):
        x, y = rng.integers(5, 90), rng.integers(20, 60)
        rgb[y : y + 45, x : x + 40] = colour
        depth[y : y + 45, x : x + 40] = rng.integers(1000, 2500)
    return rgb, depth


def frame(seed=0):
    rgb, depth = picture(seed)
    return RgbdFrame(rgb, depth_in_metres(depth, 0.001), K)


def png(pixels):
    return {"bytes": bytes(cv2.imencode(".png", pixels)[1]), "path": None}


def conversation(asked):
    turns = []
    for _, question, answer in asked:
        mark = "" if turns else "<image>\n"
        turns += [{"from": "human", "value": mark + question}, {"from": "gpt", "value": answer}]
    return turns


@pytest.fixture
def ours(tmp_path):
    """A folder in the format of training.build: three images, four questions each."""
    rows = []
    for seed in range(3):
        rgb, depth = picture(seed)
        rows.append(
            {
                "image": png(rgb[..., ::-1]),
                "conversations": conversation(ASKED),
                "type": [kind for kind, *_ in ASKED],
                "depth": png(depth),
                "intrinsics": dataclasses.asdict(K),
                "camera_to_world": np.eye(4).ravel().tolist(),
                "scene_graph": "[]",
                "thoughts": [],
                "source": "simulated",
                "scene": str(seed),
                "view": "0",
            }
        )
    folder = tmp_path / "ours"
    folder.mkdir()
    pq.write_table(
        pa.Table.from_pylist(rows, schema=CONVERSATIONS), folder / "test-sim-00000.parquet"
    )
    return folder


@pytest.fixture
def released(tmp_path):
    """MSMU-Bench in the released form: no depth, no intrinsics, one image per question."""
    rows = [
        {"image": png(picture(n)[0][..., ::-1]), "conversations": conversation([row]),
         "type": row[0]}
        for n, row in enumerate(ASKED)
    ]  # fmt: skip
    file = tmp_path / "test.parquet"
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file


@pytest.fixture(scope="module")
def blind(tmp_path_factory):
    """A model that uses no depth."""
    return str(write_tiny_checkpoint(tmp_path_factory.mktemp("model"), "none"))


def run(capsys, benchmark, out, **options):
    evaluate(benchmark=str(benchmark), out=out, **options)
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def refused(capsys, benchmark, out, **options):
    with pytest.raises(typer.Exit) as error:
        evaluate(benchmark=str(benchmark), out=out, **options)
    assert error.value.exit_code == 1
    return capsys.readouterr().err


def test_questions_of_a_frame_are_answered_as_one_by_one():
    engine, answers = SpatialEngine(load("nano", "cpu")), answers_of(load("nano", "cpu"))
    questions = [question for _, question, _ in ASKED]
    for view, several in ((frame(0), questions), (frame(2), questions[1:3])):
        session = engine.open(view)
        alone = [session.ask(question) for question in several]
        together = answers(view, several)
        assert [answer.text for answer in together] == [answer.text for answer in alone]
        # Of the model's own calibration, as the engine gives it.
        confidences = [answer.confidence for answer in together]
        assert confidences == pytest.approx([answer.confidence for answer in alone], abs=1e-4)
        assert any(answer.raw != answer.confidence for answer in together)


def test_a_refused_question_does_not_affect_those_beside_it():
    answers = answers_of(load("nano", "cpu"))
    found = answers(frame(0), [ASKED[0][1], "", ASKED[1][1]])
    assert [bool(answer.error) for answer in found] == [False, True, False]
    assert found[1].error.startswith("QueryError")


def test_a_refused_frame_is_a_refusal_of_each_of_its_questions():
    answers = answers_of(load("nano", "cpu"))
    wide = dataclasses.replace(frame(1).intrinsics, fx=1e-9)
    found = answers(dataclasses.replace(frame(1), intrinsics=wide), ["Why?", "How?"])
    assert [answer.error.partition(":")[0] for answer in found] == ["IntrinsicsError"] * 2


def _answers(out):
    """The answers of a run, without the seconds that they took."""
    rows = [json.loads(line) for line in (out / ANSWERS).read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def test_shares_of_a_benchmark_merge_to_the_answers_of_one_run(capsys, ours, tmp_path):
    """With a control that shows the next frame, which belongs to another share."""
    whole = run(capsys, ours, tmp_path / "whole", depth="shuffled")
    out = tmp_path / "shares"
    for shard in ("2/2", "1/2"):
        evaluate(benchmark=str(ours), out=out, depth="shuffled", shard=shard)
        assert capsys.readouterr().out == ""
        assert not (out / SCORES).exists()
    merged = run(capsys, ours, out, depth="shuffled")
    assert _answers(out) == _answers(tmp_path / "whole")
    assert merged == whole
    assert not list(out.glob("answers-*"))


def test_what_a_share_left_out_is_asked_by_the_run_that_merges(capsys, ours, tmp_path):
    whole = run(capsys, ours, tmp_path / "whole")
    out = tmp_path / "shares"
    evaluate(benchmark=str(ours), out=out, shard="1/2")
    part = out / "answers-1-of-2.jsonl"
    lines = part.read_text().splitlines()
    # Interrupted in the middle of a line.
    part.write_text("\n".join(lines[:4]) + "\n" + lines[4][:20])
    assert run(capsys, ours, out)["per_type"] == whole["per_type"]
    assert _answers(out) == _answers(tmp_path / "whole")


def test_processes_of_torchrun_answer_a_share_each_and_the_first_one_merges(
    capsys, ours, blind, tmp_path
):
    options = ["--benchmark", ours, "--model", blind, "--depth", "none", "--device", "cpu", "--out"]
    whole = run(capsys, ours, tmp_path / "whole", model=blind, depth="none")
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [sys.executable, *launch, "-m", "training.evaluate", *options, tmp_path / "both"],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["per_type"] == whole["per_type"]
    assert _answers(tmp_path / "both") == _answers(tmp_path / "whole")


def test_a_model_on_a_server_is_evaluated_like_any_other_and_resumes(capsys, ours, tmp_path):
    out = tmp_path / "out"
    (tmp_path / "words.txt").write_text("Measure: {{ question }} In metres.")
    with chatting(lambda _: "0.4 m.") as server:
        options = {"model": "openai:it", "endpoint": server.address, "depth_as": "text"}
        options["template"] = tmp_path / "words.txt"
        summary = run(capsys, ours, out, **options)
        requests = len(server.bodies)
        assert summary["asked"] == requests == 12
        assert summary["per_type"]["scale_estimation"]["success"] == 100
        assert summary["depth_as"] == "text"
        assert server.prompts()[0].endswith(f"Measure: {ASKED[0][1]} In metres.")
        run(capsys, ours, out, **options)
        assert len(server.bodies) == requests
    with pytest.raises(typer.BadParameter, match="go together"):
        evaluate(benchmark=str(ours), out=out, model="openai:it")


def test_a_question_without_a_reply_is_asked_again_and_the_cost_is_reported(capsys, ours, tmp_path):
    out = tmp_path / "out"
    with chatting(lambda _: "0.4 m.") as server:
        options = {"model": "openai:it", "endpoint": server.address, "endpoint_prices": "2,10"}
        server.misbehave = ["no text"]
        first = run(capsys, ours, out, **options)
        again = run(capsys, ours, out, **options)
        assert len(server.bodies) == 13
    assert first["failures"]["no answer: ChatError"] == 1
    assert "no answer: ChatError" not in again["failures"]
    assert again["cost"] == {
        "replies": 12, "prompt_tokens": 12_000, "completion_tokens": 2_400, "cost": 0.048
    }  # fmt: skip
    for prices in ("2", "2,x", "-1,2", "nan,1"):
        with pytest.raises(typer.BadParameter, match="two prices"):
            evaluate(benchmark=str(ours), out=out, **options | {"endpoint_prices": prices})


@pytest.mark.parametrize("shard", ["0/2", "3/2", "half", "1/0"])
def test_a_share_that_does_not_exist_is_refused(ours, tmp_path, shard):
    with pytest.raises(typer.BadParameter, match="--shard must be I/N"):
        evaluate(benchmark=str(ours), out=tmp_path, shard=shard)


def test_a_local_folder_is_scored_by_both_rules_with_intervals(capsys, ours, tmp_path):
    out = tmp_path / "out"
    summary = run(capsys, ours, out)
    assert summary["asked"] == 12
    assert set(summary["per_type"]) == {kind for kind, *_ in ASKED}
    for part in (summary, summary["official"]):
        assert set(part["per_type"]["count"]) == {"success", "correct", "asked"}
        assert set(part["intervals"]) == {*part["per_type"], "macro"}
        success = [entry["success"] for entry in part["per_type"].values()]
        assert part["macro"] == pytest.approx(sum(success) / 8, abs=0.02)
    assert json.loads((out / SCORES).read_text()) == summary
    judged = [json.loads(line) for line in (out / JUDGED).read_text().splitlines()]
    assert sum(row["correct"] for row in judged) == sum(
        entry["correct"] for entry in summary["per_type"].values()
    )
    assert {row["depth_source"] for row in judged} == {"sensor"}
    assert "| macro |" in (out / REPORT).read_text()
    assert not list(out.glob("*.tmp"))


def test_an_interrupted_run_resumes_and_another_run_is_refused(capsys, ours, tmp_path):
    out = tmp_path / "out"
    whole = run(capsys, ours, out)
    lines = (out / ANSWERS).read_text().splitlines()
    (out / ANSWERS).write_text("\n".join(lines[:6]) + "\n" + lines[6][:30])
    assert run(capsys, ours, out) == whole
    assert [json.loads(line).get("key") for line in (out / ANSWERS).read_text().splitlines()] == [
        json.loads(line).get("key") for line in lines
    ]
    with pytest.raises(typer.BadParameter, match="another run"):
        evaluate(benchmark=str(ours), out=out, depth="constant")


def test_answers_of_other_weights_at_the_same_place_are_refused(capsys, ours, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(NANO_DIRECTORY, model)
    run(capsys, ours, tmp_path / "out", model=str(model))
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"calibration": {}}))
    with pytest.raises(typer.BadParameter, match="different in weights"):
        evaluate(benchmark=str(ours), out=tmp_path / "out", model=str(model))


@pytest.mark.parametrize(
    "options",
    [
        {"depth": "shuffled"}, {"depth": "constant"}, {"depth": "inverted"},
        {"depth": "noise:0.5"}, {"intrinsics": "wrong"}, {"frames": "shuffled"},
        {"frames": "blank"}, {"depth": "none"},
    ],
)  # fmt: skip
def test_every_control_asks_every_question(capsys, ours, tmp_path, options):
    summary = run(capsys, ours, tmp_path / "out", **options)
    assert summary["asked"] == 12
    assert {key: summary[key] for key in options} == options


@pytest.mark.parametrize(
    "options",
    [{"depth": "upside-down"}, {"depth": "noise"}, {"depth": "noise:-1"}, {"depth": "own:1"},
     {"intrinsics": "none"}, {"frames": "grey"}, {"judge": "oracle"}, {"judge": "openai"},
     {"judge": "minilm"}, {"regions": "painted"}],
)  # fmt: skip
def test_invalid_option_values_are_refused(ours, tmp_path, options):
    with pytest.raises(typer.BadParameter):
        evaluate(benchmark=str(ours), out=tmp_path / "out", **options)


def test_a_benchmark_without_depth_is_refused_to_a_model_that_needs_it(capsys, released, tmp_path):
    said = refused(capsys, "msmu", tmp_path / "a", data=released)
    assert "--estimator" in said
    assert "--depth none" in said
    assert "test/0 has no depth" in said
    summary = run(capsys, "msmu", tmp_path / "b", data=released, depth="none")
    assert summary["asked"] == 4  # answered or counted as failures, never dropped
    refused(capsys, "msmu", tmp_path / "c", data=released, depth="shuffled")
    refused(capsys, "msmu", tmp_path / "d", data=tmp_path / "none.parquet")
    (tmp_path / "cut.parquet").write_bytes(released.read_bytes()[:-20])
    assert "damaged" in refused(capsys, "msmu", tmp_path / "f", data=tmp_path / "cut.parquet")
    assert "--data" in refused(capsys, "msmu", tmp_path / "e")


def test_msmu_bench_is_reported_beside_the_published_rows(capsys, released, tmp_path, blind):
    summary = run(capsys, "msmu", tmp_path / "out", data=released, model=blind)
    assert summary["asked"] == 4
    assert summary["failures"]
    report = (tmp_path / "out" / REPORT).read_text()
    assert "| SD-VLM | 87.23 |" in report
    assert ", strict | " in report


def test_q_spatial_and_spatialrgpt_bench_run_to_the_end(capsys, tmp_path, blind):
    image = png(picture()[0][..., ::-1])
    row = {"question": "How tall is the red box?", "answer_value": 0.4, "answer_unit": "m",
           "question_type": "height", "image_path": "", "image": image}  # fmt: skip
    pq.write_table(pa.Table.from_pylist([row] * 2), tmp_path / "QSpatial_plus.parquet")
    summary = run(capsys, "q-spatial", tmp_path / "a", data=tmp_path, model=blind)
    assert summary["per_type"].keys() == {"QSpatial_plus"}
    assert summary["macro"] == summary["per_type"]["QSpatial_plus"]["success"]

    (tmp_path / "b.png").write_bytes(image["bytes"])
    region = {"image_info": {"file_path": "b.png"}, "text_q": "How wide is Region [0]?",
              "conversations": conversation([("", "", "1 m")]), "bbox": [[5, 5, 50, 50]],
              "qa_info": {"type": "quantitative", "category": "width_data"}}  # fmt: skip
    (tmp_path / "rows.jsonl").write_text(json.dumps(region) + "\n")
    rows = tmp_path / "rows.jsonl"
    for regions in ("drawn", "text"):
        out = tmp_path / regions
        summary = run(capsys, "spatialrgpt", out, data=rows, model=blind, regions=regions)
        assert summary["per_type"].keys() == {"width"}
        assert summary["asked"] == 1


def test_another_judge_uses_the_same_answers(capsys, released, tmp_path, blind):
    pytest.importorskip("openai", reason="openai is absent (train.txt)")
    out = tmp_path / "out"
    run(capsys, "msmu", out, data=released, model=blind)
    before = (out / ANSWERS).read_text()

    def reply(prompt):
        if "your_mark" in prompt:
            return '{"your_mark": 1}'
        return '{"answer_in_meters": 1, "response_in_meters": 1}'

    with chatting(reply) as server:
        options = {"judge": "openai", "judge_url": server.address, "judge_model": "judge"}
        server.misbehave = ["garbage"]
        summary = run(capsys, "msmu", out, data=released, model=blind, **options)
        assert summary["failures"] == {"no judgement: malformed response": 1}
        assert sum(e["correct"] for e in summary["official"]["per_type"].values()) == 3
        summary = run(capsys, "msmu", out, data=released, model=blind, **options)
        assert summary["failures"] == {}
        assert sum(e["correct"] for e in summary["per_type"].values()) == 4
        assert len(server.bodies) == 1 + 3 + 1
    assert (out / ANSWERS).read_text() == before


def test_estimated_depth_is_used_only_on_request_and_is_reported(capsys, released, tmp_path):
    import torch

    from sdvlm_core.model.depth_estimation import DepthEstimator
    from training.evaluate.asking import Model
    from training.evaluate.benchmarks import open_benchmark

    class Flat(torch.nn.Module):
        dtype = torch.float32

        def forward(self, pixels):
            depth = torch.full(pixels.shape[-2:], 2.0)[None]
            return type("Output", (), {"predicted_depth": depth})()

    network = DepthEstimator("flat", Flat(), "estimated_metric", torch.device("cpu"))
    (view, *_) = open_benchmark("msmu", released).pictures()
    model = Model(None, network, needs_depth=True, needs_intrinsics=False)
    seen = model.seen(view, Controls())
    assert seen.depth_source == "estimated_metric"
    assert np.allclose(seen.depth, 2.0)
    assert model.seen(view, Controls(depth="none")).depth is None
    with pytest.raises(ValueError, match="--estimator"):
        dataclasses.replace(model, estimator=None).seen(view, Controls())


def test_controls_change_what_they_name_and_nothing_else():
    own, other = frame(0), frame(1)
    assert shown(own, other, Controls(), 0) is own
    assert shown(own, other, Controls(frames="shuffled"), 0) is other
    swapped = shown(own, other, Controls(depth="shuffled"), 0)
    assert (swapped.depth == other.depth).all()
    assert swapped.rgb is own.rgb
    flat = shown(own, other, Controls(depth="constant"), 0)
    assert np.ptp(flat.depth) == 0
    turned = shown(own, other, Controls(depth="inverted"), 0)
    assert turned.depth.min() == pytest.approx(own.depth.min())
    assert np.corrcoef(turned.depth.ravel(), own.depth.ravel())[0, 1] == pytest.approx(-1)
    noisy = shown(own, other, Controls(depth="noise", sigma=0.1), 5)
    assert (noisy.depth - own.depth).std() == pytest.approx(0.1, rel=0.05)
    assert (shown(own, other, Controls(depth="noise", sigma=0.1), 5).depth == noisy.depth).all()
    wrong = shown(own, other, Controls(intrinsics="wrong"), 0)
    assert (wrong.intrinsics.fx, wrong.intrinsics.cx) == (1.5 * K.fx, K.cx)
    assert wrong.depth is own.depth
    grey = shown(own, other, Controls(frames="blank"), 0)
    assert np.ptp(grey.rgb) == np.ptp(grey.depth) == 0
    assert shown(own, other, Controls(frames="blank", depth="none"), 0).depth is None


def test_missing_readings_stay_missing_and_depth_is_resized():
    own, other = frame(0), frame(1)
    holed = dataclasses.replace(own, depth=own.depth.copy())
    holed.depth[:10] = np.nan
    for depth in (Controls(depth="inverted"), Controls(depth="noise", sigma=0.1)):
        assert np.isnan(shown(holed, other, depth, 0).depth[:10]).all()
    small = RgbdFrame(other.rgb[::2, ::2].copy(), other.depth[::2, ::2].copy())
    assert shown(own, small, Controls(depth="shuffled"), 0).depth.shape == own.depth.shape


def test_a_control_without_anything_to_change_is_refused():
    bare = RgbdFrame(picture()[0])
    for controls in (Controls(depth="shuffled"), Controls(depth="inverted")):
        with pytest.raises(DepthError):
            shown(bare, bare, controls, 0)
    with pytest.raises(IntrinsicsError):
        shown(bare, bare, Controls(intrinsics="wrong"), 0)
