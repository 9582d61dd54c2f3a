"""The tools of agents, called by the SDK's own client in this process."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

mcp = pytest.importorskip("mcp")


from sdvlm_core.answer import (  # noqa: E402
    Position,
    Quantity,
    SpatialAnswer,
    Verdict,
    answer_document,
)
from sdvlm_core.cautions import UNFIT  # noqa: E402
from sdvlm_core.front import agent_results  # noqa: E402
from sdvlm_core.front.agent_pictures import MAX_SIDE  # noqa: E402
from sdvlm_core.front.agents import agents_server  # noqa: E402
from sdvlm_core.front.backend import Origin, Shot  # noqa: E402
from sdvlm_core.front.offline import OfflineBackend, open_offline  # noqa: E402
from tests.core.front.agents import (  # noqa: E402
    CAN,
    MUG,
    TABLE,
    TOOLS,
    Result,
    document_of_command,
    failure,
    talk,
    without_fitness,
)
from tests.paths import ROOT  # noqa: E402


@pytest.fixture(scope="module")
def backend() -> Iterator[OfflineBackend]:
    """The table's frame, without a model."""
    backend = open_offline(TABLE / "rgb.png", TABLE / "depth.png", TABLE / "intrinsics.json")
    yield backend
    backend.close()


def call(backend: Any, tool: str, **arguments: Any) -> Result:
    """The result of one call, after a capture."""

    async def conversation(client: Any) -> Result:
        captured = await client.call_tool("capture", {})
        if arguments.get("stamp") == "the captured":
            arguments["stamp"] = captured.structured_content["stamp"]
        return await client.call_tool(tool, arguments)

    return talk(agents_server(backend), conversation)


def test_every_tool_is_listed_with_what_goes_in_and_comes_out(backend) -> None:
    async def conversation(client: Any) -> Any:
        return (await client.list_tools()).tools

    tools = talk(agents_server(backend), conversation)
    assert [tool.name for tool in tools] == TOOLS
    for tool in tools:
        assert len(tool.description) > 100
        assert tool.output_schema["properties"]
        assert tool.annotations.read_only_hint


def test_a_picture_is_an_image_in_whose_pixels_objects_are_measured(backend) -> None:
    result = call(backend, "capture")
    image, _ = result.content
    assert image.mime_type == "image/jpeg"
    found = result.structured_content
    import base64

    picture = Image.open(BytesIO(base64.b64decode(image.data)))
    assert picture.size == (found["width"], found["height"]) == (640, 480)
    assert found["has_depth"] is True
    assert found["fit_to_act_on"] is True


def test_measured_numbers_are_those_of_the_command(backend) -> None:
    regions = [{"label": "mug", "box": MUG}, {"label": "can", "point": CAN}]
    result = call(backend, "measure", stamp="the captured", regions=regions)
    expected = document_of_command("--region", "mug=189,193,266,300", "--point", "can=332,131")
    assert without_fitness(result.structured_content) == expected
    assert [one["fit_to_act_on"] for one in result.structured_content["regions"]] == [True, True]


def test_a_moment_of_a_bag_is_captured_by_its_time() -> None:
    table = ROOT / "demo" / "table"
    backend = open_offline(bag=table)

    async def conversation(client: Any) -> tuple[Result, Result]:
        captured = await client.call_tool("capture", {"at_s": 0.5})
        stamp = captured.structured_content["stamp"]
        regions = [{"label": "can", "box": [364, 398, 405, 450]}]
        return captured, await client.call_tool("measure", {"stamp": stamp, "regions": regions})

    captured, measured = talk(agents_server(backend), conversation)
    backend.close()
    assert captured.structured_content["source"].startswith("bag ")
    assert int(captured.structured_content["stamp"]) > 0
    expected = document_of_command(
        "--region", "can=364,398,405,450", source=["--bag", str(table), "--time", "0.5"]
    )
    assert without_fitness(measured.structured_content) == expected


def test_a_large_picture_is_scaled_and_its_pixels_mean_the_same_objects(backend) -> None:
    small = backend.capture()
    rgb = np.repeat(np.repeat(small.rgb, 4, axis=0), 4, axis=1)
    asked: list[Any] = []

    class Large:
        origin = Origin("files", "large")

        def capture(self, at_s: float | None = None) -> Shot:
            return Shot(1, "optical", rgb, None)

        def measure(self, stamp_ns: int, regions: Any) -> dict[str, Any]:
            asked.extend(regions)
            return {"cautions": [], "regions": [], "pairs": []}

    large = Large()
    captured = call(large, "capture").structured_content
    assert (captured["width"], captured["height"]) == (MAX_SIDE, 960)
    regions = [{"label": "a", "box": [10, 20, 30, 40]}, {"label": "b", "point": [0, 0]}]
    call(large, "measure", stamp="the captured", regions=regions)
    assert asked[0].box == (20, 40, 60, 80)
    assert asked[1].point == (0.5, 0.5)  # the centre of the four pixels that became one


@pytest.mark.parametrize(
    ("tool", "arguments", "code", "says"),
    [
        ("measure", {"stamp": "the captured"}, "INVALID_QUERY", "regions: Field required"),
        ("measure", {"stamp": "the captured", "regions": []}, "INVALID_QUERY", "at least 1"),
        (
            "measure",
            {"stamp": "the captured", "regions": [{"label": "x"}]},
            "INVALID_QUERY",
            "exactly one of box",
        ),
        (
            "measure",
            {"stamp": "the captured", "regions": [{"label": "x", "box": [5, 5, 1, 1]}]},
            "INVALID_QUERY",
            "empty box",
        ),
        (
            "measure",
            {"stamp": "the captured", "regions": [{"label": "x" * 201, "point": [1, 1]}]},
            "INVALID_QUERY",
            "at most 200",
        ),
        (
            "measure",
            {"stamp": "the captured", "regions": [{"label": "x", "point": [1, 1]}] * 33},
            "INVALID_QUERY",
            "at most 32",
        ),
        (
            "measure",
            {"stamp": "17", "regions": [{"label": "x", "point": [1, 1]}]},
            "NO_IMAGE",
            "call capture",
        ),
        (
            "measure",
            {"stamp": "now", "regions": [{"label": "x", "point": [1, 1]}]},
            "INVALID_QUERY",
            "no stamp",
        ),
        (
            "measure",
            {"stamp": "the captured", "regions": [{"label": "x", "point": [1, 1]}], "unit": "cm"},
            "INVALID_QUERY",
            "no argument unit",
        ),
        ("capture", {"at_s": 3.0}, "INVALID_QUERY", "only a bag has times"),
        ("ask", {"questions": ["How tall?"]}, "MODEL_NOT_READY", "no model"),
        ("ask", {"questions": ["a" * 2001]}, "INVALID_QUERY", "at most 2000"),
        (
            "ask",
            {"questions": [{"quantity": "GAP", "objects": ["mug"]}]},
            "INVALID_QUERY",
            "GAP needs 2",
        ),
        (
            "ask",
            {"questions": ["How tall?"], "regions": [{"label": "mug", "box": MUG}]},
            "INVALID_QUERY",
            "give the stamp",
        ),
        ("locate", {"name": "mug"}, "MODEL_NOT_READY", "no model"),
        ("find_detections", {"names": ["a", "a"]}, "INVALID_QUERY", "must differ"),
        ("find_detections", {"names": ["a"]}, "MODEL_NOT_READY", "no model"),
        ("fly", {}, "INVALID_QUERY", "no tool 'fly'"),
    ],
)
def test_a_malformed_call_is_an_error_with_a_code_and_what_to_do(
    backend, tool: str, arguments: dict[str, Any], code: str, says: str
) -> None:
    found = failure(call(backend, tool, **arguments))
    assert found["code"] == code
    assert says in found["message"]
    assert found["what_to_do"] == agent_results.WHAT_TO_DO[code]


def test_a_defect_is_an_error_without_a_traceback(backend, caplog) -> None:
    class Defective:
        origin = Origin("files", "defective")

        def capture(self, at_s: float | None = None) -> Shot:
            raise ZeroDivisionError("secret of the implementation")

    found = failure(call(Defective(), "capture"))
    assert found["code"] == "UNKNOWN"
    assert "secret" not in found["message"]
    assert "secret" in caplog.text


def test_an_object_is_located_in_a_box_and_refused_where_there_is_none(backend) -> None:
    located = call(backend, "locate", name="mug", box=MUG, stamp="the captured")
    expected = document_of_command("--region", "mug=189,193,266,300")["regions"][0]
    assert located.structured_content["position_m"] == expected["position_m"]
    assert located.structured_content["std_dev_m"] == expected["std_dev"]["position_m"]
    refused = failure(call(backend, "locate", name="mug", box=[0, 0, 30, 30], stamp="the captured"))
    assert refused["code"] == "NOT_CERTAIN"
    assert any(code.value in refused["message"] for code in UNFIT)


def test_two_names_at_one_place_are_not_certain(backend) -> None:
    class Pointing:
        """Points at the mug, whatever it is asked for; depth is real."""

        origin = Origin("files", "pointing")
        capture, measure = backend.capture, backend.measure

        def ask(self, stamp_ns: int, questions: Any, **_: Any) -> list[dict[str, Any]]:
            mug = (Position("", -0.12, 0.0085, 0.75),)
            answers = [
                SpatialAnswer("?", "text", one, verdict=Verdict.HOLDS)
                if one.quantity is Quantity.EXISTS
                else SpatialAnswer("?", "text", one, positions=mug)
                for one in questions
            ]
            return [answer_document(one) for one in answers]

    found = call(Pointing(), "find_detections", names=["cup", "red mug"]).structured_content
    assert [one["found"] for one in found["detections"]] == [True, True]
    for one in found["detections"]:
        assert not one["fit_to_act_on"]
        assert "at the same place" in one["why_not"]
        assert one["box_px"] is None
    alone = call(Pointing(), "locate", name="red mug")
    assert alone.structured_content["camera_distance_m"] == pytest.approx(0.802, abs=0.01)
