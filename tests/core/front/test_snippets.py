"""What the page offers to copy: it runs, means the same, and nothing escapes its quotes."""

from __future__ import annotations

import ast
import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sdvlm_core.cli.app import app
from sdvlm_core.errors import QueryError
from sdvlm_core.frame import Region
from sdvlm_core.front.backend import Origin
from sdvlm_core.front.snippets import measurement_snippets, question_snippets
from sdvlm_core.front.source import Source, open_source

_ROOT = Path(__file__).parents[3]
_TABLE = _ROOT / "docs" / "table"
_FILES = Source(
    rgb=_TABLE / "rgb.png",
    depth=str(_TABLE / "depth.png"),
    intrinsics=_TABLE / "intrinsics.json",
    sensor="simulated",
    up=(0.0, -0.788, -0.616),
)
_BAG = Source(bag=_ROOT / "demo" / "table")
_NODE = Source(node="/arm/spatial_query")
_MUG = Region("red mug", box=(189.0, 193.0, 266.0, 300.0))
_CAN = Region("can", point=(332.0, 131.0))
_HOSTILE = Region("'; rm -rf / #\" $(id) `id`", point=(1.0, 2.0))


@pytest.mark.parametrize(("source", "at_s"), [(_FILES, None), (_BAG, 0.5)])
def test_the_command_and_the_python_code_give_the_numbers_of_the_page(source, at_s):
    backend = open_source(source, None)
    shot = backend.capture(at_s)
    found = backend.measure(shot.stamp_ns, [_MUG, _CAN])
    texts = measurement_snippets(source, [_MUG, _CAN], at_s, shot.stamp_ns)
    program, *words = shlex.split(texts["cli"])
    assert program == "sdvlm"
    assert json.loads(CliRunner().invoke(app, words).stdout) == found
    done = subprocess.run(
        [sys.executable, "-c", texts["python"]], capture_output=True, text=True, check=True
    )
    for line, region in zip(done.stdout.splitlines(), found["regions"], strict=True):
        sizes = " ".join(str(region[f"{side}_m"]) for side in ("length", "width", "height"))
        assert line.startswith(f"{region['label']} {sizes} ")


def test_the_calls_of_a_node_name_its_frame():
    texts = measurement_snippets(_NODE, [_MUG, _CAN], None, 1_700_000_000_400_000_000)
    assert list(texts) == ["ros", "python"]
    *call, request = shlex.split(texts["ros"])
    assert call[-2:] == ["/arm/spatial_query/measure_regions", "sdvlm/srv/MeasureRegions"]
    fields = json.loads(request)
    assert fields["stamp"] == {"sec": 1_700_000_000, "nanosec": 400_000_000}
    roi = {"x_offset": 189, "y_offset": 193, "width": 77, "height": 107}
    assert fields["regions"][0] == {"label": "red mug", "roi": roi}
    assert fields["regions"][1]["roi"] == {"x_offset": 332, "y_offset": 131}


def test_the_calls_of_one_of_several_cameras_name_it():
    source = Source(node="/arm/spatial_query", camera="left")
    for texts in (
        measurement_snippets(source, [_MUG], None, 5),
        question_snippets(source, "How tall is it?", [], verify=False, stamp_ns=5),
    ):
        assert json.loads(shlex.split(texts["ros"])[-1])["camera"] == "left"
        assert "stamp_ns=5, camera='left')" in texts["python"]


def test_a_question_to_a_model_on_a_server_names_it():
    origin = Origin("files", "", 0.0, "nano", "http://10.0.0.5:8000", "sd")
    texts = question_snippets(_FILES, "How tall is it?", [], verify=False, origin=origin)
    assert "--model nano --server http://10.0.0.5:8000 --served-model sd" in texts["cli"]
    wanted = "LoadOptions('nano', server='http://10.0.0.5:8000', served_model='sd')"
    assert f"session = load_engine({wanted}).open(frame)" in texts["python"]
    ast.parse(texts["python"])


@pytest.mark.parametrize("source", [_FILES, _BAG, _NODE])
def test_a_hostile_label_or_question_stays_inside_its_quotes(source):
    for texts in (
        measurement_snippets(source, [_HOSTILE]),
        question_snippets(source, _HOSTILE.label, [_HOSTILE], verify=True),
    ):
        ast.parse(texts["python"])
        constants = [
            node.value
            for node in ast.walk(ast.parse(texts["python"]))
            if isinstance(node, ast.Constant)
        ]
        assert _HOSTILE.label in constants
        request = json.loads(shlex.split(texts["ros"])[-1])
        assert request["regions"][0]["label"] == _HOSTILE.label
        if "cli" in texts:
            assert f"{_HOSTILE.label}=1,2" in shlex.split(texts["cli"])


def test_a_question_is_a_command_for_files_only():
    texts = question_snippets(_FILES, "How tall is the red mug?", [_MUG], verify=True)
    words = shlex.split(texts["cli"])
    assert words[:3] == ["sdvlm", "ask", "How tall is the red mug?"]
    assert "--verify" in words
    assert "cli" not in question_snippets(_BAG, "How tall is the red mug?", [], verify=False)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "--rgb"),
        ({"bag": Path("a"), "node": "/n"}, "--rgb"),
        ({"node": "/n", "depth": "d"}, "parameters of the node"),
        ({"rgb": Path("a"), "time_s": 1.0}, "need --bag"),
        ({"rgb": Path("a"), "camera": "left"}, "--camera needs --node"),
        ({"bag": Path("a"), "intrinsics": Path("k")}, "--intrinsics needs --rgb"),
    ],
)
def test_options_of_two_sources_are_refused(options, reason):
    with pytest.raises(QueryError, match=reason):
        Source(**options)
