"""The tools of agents, called by the SDK's own client: in this process, on stdio and over HTTP."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

mcp = pytest.importorskip("mcp")

from mcp.client.streamable_http import streamable_http_client  # noqa: E402

from sdvlm_core.answer import (  # noqa: E402
    SIDES,
    Asked,
    Measurement,
    Position,
    Quantity,
    Source,
    SpatialAnswer,
    Status,
    Verdict,
    answer_document,
)
from sdvlm_core.cautions import UNFIT, Caution  # noqa: E402
from sdvlm_core.cli.app import app  # noqa: E402
from sdvlm_core.errors import ErrorCode, QueryError  # noqa: E402
from sdvlm_core.front import agent_results  # noqa: E402
from sdvlm_core.front.agent_pictures import MAX_SIDE  # noqa: E402
from sdvlm_core.front.agent_serving import Address  # noqa: E402
from sdvlm_core.front.agents import agents_server  # noqa: E402
from sdvlm_core.front.backend import Origin, Shot  # noqa: E402
from sdvlm_core.front.offline import OfflineBackend, open_offline  # noqa: E402
from tests.paths import ROOT  # noqa: E402
from tests.waiting import PATIENCE_S  # noqa: E402

TABLE = ROOT / "docs" / "table"
FILES = [
    *("--rgb", str(TABLE / "rgb.png"), "--depth", str(TABLE / "depth.png")),
    *("--intrinsics", str(TABLE / "intrinsics.json")),
]
MUG, CAN = [189, 193, 266, 300], [332, 131]
TOOLS = ["capture", "measure", "ask", "locate", "find_detections"]
TOKEN = "a secret of the test"
Result = mcp.types.CallToolResult


@pytest.fixture(scope="module")
def backend() -> Iterator[OfflineBackend]:
    """The table's frame, without a model."""
    backend = open_offline(TABLE / "rgb.png", TABLE / "depth.png", TABLE / "intrinsics.json")
    yield backend
    backend.close()


def talk(server: Any, conversation: Callable[[Any], Awaitable[Any]]) -> Any:
    """What a conversation of the SDK's client with a server returns."""

    async def connected() -> Any:
        async with mcp.Client(server, read_timeout_seconds=PATIENCE_S) as client:
            return await conversation(client)

    return asyncio.run(connected())


def call(backend: Any, tool: str, **arguments: Any) -> Result:
    """The result of one call, after a capture."""

    async def conversation(client: Any) -> Result:
        captured = await client.call_tool("capture", {})
        if arguments.get("stamp") == "the captured":
            arguments["stamp"] = captured.structured_content["stamp"]
        return await client.call_tool(tool, arguments)

    return talk(agents_server(backend), conversation)


def failure(result: Result) -> dict[str, str]:
    """The fields of an error; its text is the same."""
    assert result.is_error
    assert json.loads(result.content[0].text) == result.structured_content
    assert set(result.structured_content) == {"code", "message", "what_to_do"}
    return result.structured_content


def document_of_command(*arguments: str, source: Sequence[str] = FILES) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["measure", *source, *arguments, "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def without_fitness(value: Any) -> Any:
    """A result without what it adds to the documents."""
    if isinstance(value, dict):
        added = {"fit_to_act_on", "why_not", "stamp", "frame_id"}
        return {key: without_fitness(one) for key, one in value.items() if key not in added}
    return [without_fitness(one) for one in value] if isinstance(value, list) else value


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


def test_every_error_code_says_what_to_do() -> None:
    assert {code.name for code in ErrorCode if code} <= agent_results.WHAT_TO_DO.keys()


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


def answer(kind: Quantity, *numbers: Measurement, **fields: Any) -> agent_results.AnswerResult:
    found = SpatialAnswer("?", "text", Asked(kind, ("mug",)), tuple(numbers), **fields)
    return agent_results.answer_result(answer_document(found), "?")


def number(source: Source, value: float = 0.1, kind: Quantity = Quantity.HEIGHT) -> Measurement:
    return Measurement(kind, value, 0.01, source, ("mug",))


def test_only_what_depth_confirms_is_fit_to_act_on() -> None:
    told, seen = number(Source.LANGUAGE), number(Source.GEOMETRY, 0.2)
    alone = answer(Quantity.HEIGHT, told)
    assert (alone.fit_to_act_on, alone.value, alone.source) == (False, 0.1, "LANGUAGE")
    both = answer(Quantity.HEIGHT, told, seen)
    assert (both.fit_to_act_on, both.value, both.source) == (True, 0.2, "GEOMETRY")
    contradicted = answer(Quantity.HEIGHT, told, seen, status=Status.DISAGREEMENT)
    assert not contradicted.fit_to_act_on
    doubtful = answer(Quantity.HEIGHT, told, seen, cautions=(Caution.TRUNCATED,))
    assert doubtful.why_not == "truncated"
    assert not answer(Quantity.HEIGHT, status=Status.NO_ANSWER).fit_to_act_on
    assert not answer(Quantity.COMPARISON, verdict=Verdict.HOLDS).fit_to_act_on


@pytest.mark.parametrize(
    ("asked", "kind", "objects"),
    [
        (Quantity.HEIGHT, Quantity.WIDTH, ("mug",)),
        (Quantity.HEIGHT, Quantity.HEIGHT, ("box",)),
        (Quantity.SIZE, Quantity.LENGTH, ("mug",)),
        (Quantity.FREE, Quantity.LENGTH, ("mug",)),
    ],
)
def test_a_number_of_another_kind_or_object_is_never_the_value(asked, kind, objects) -> None:
    other = Measurement(kind, 0.3, 0.01, Source.GEOMETRY, objects)
    found = answer(asked, other)
    assert (found.value, found.source, found.fit_to_act_on) == (None, "", False)
    assert [(one.kind, one.value, one.objects) for one in found.numbers] == [
        (kind.name, 0.3, list(objects))
    ]


def test_a_size_is_fit_when_depth_has_measured_every_side() -> None:
    sides = [number(Source.GEOMETRY, 0.1, kind) for kind in SIDES]
    assert answer(Quantity.SIZE, *sides).fit_to_act_on
    assert not answer(Quantity.SIZE, *sides[:2]).fit_to_act_on
    told = number(Source.LANGUAGE, 0.1, SIDES[2])
    assert not answer(Quantity.SIZE, *sides[:2], told).fit_to_act_on


def test_a_count_and_an_existence_need_no_depth() -> None:
    count = number(Source.LANGUAGE, 0.0, Quantity.COUNT)
    assert answer(Quantity.COUNT, count, status=Status.NOT_VISIBLE).fit_to_act_on
    assert answer(Quantity.EXISTS, verdict=Verdict.DOES_NOT_HOLD).fit_to_act_on
    assert not answer(Quantity.EXISTS).fit_to_act_on


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "sdvlm_core.cli", "mcp", *arguments]


def test_a_process_on_stdio_answers_with_nano_like_the_commands() -> None:
    words = command(*FILES)
    server = mcp.StdioServerParameters(command=words[0], args=words[1:], cwd=ROOT)

    async def conversation(client: Any) -> dict[str, Result]:
        captured = await client.call_tool("capture", {})
        stamp = captured.structured_content["stamp"]
        region = {"label": "red mug", "box": MUG}
        typed = {"quantity": "HEIGHT", "objects": ["red mug"]}
        calls = {
            "measure": {"stamp": stamp, "regions": [region]},
            "ask": {"stamp": stamp, "questions": ["How many mugs are there?", typed]},
            "locate": {"stamp": stamp, "name": "red mug"},
            "find_detections": {"stamp": stamp, "names": ["red mug", "orange ball"]},
        }
        results = {name: await client.call_tool(name, given) for name, given in calls.items()}
        results["fly"] = await client.call_tool("fly", {})
        return results

    results = talk(server, conversation)
    assert failure(results.pop("fly"))["code"] == "INVALID_QUERY"
    assert not [name for name, one in results.items() if one.is_error]
    mug = document_of_command("--region", "red mug=189,193,266,300")["regions"][0]
    measured = results["measure"].structured_content
    assert without_fitness(measured)["regions"] == [mug]
    count, height = results["ask"].structured_content["answers"]
    assert count["document"]["asked"]["quantity"] == "COUNT"
    assert height["value"] == pytest.approx(mug["height_m"], abs=0.003)
    assert height["source"] in ("GEOMETRY", "FUSED")
    located = results["locate"].structured_content
    assert located["position_m"] == pytest.approx(mug["position_m"], abs=0.01)
    found, absent = results["find_detections"].structured_content["detections"]
    assert found["measured"]["position_m"] == located["position_m"]
    assert found["box_px"] == pytest.approx(MUG, abs=8)
    assert not absent["found"]
    assert "not in the picture" in absent["why_not"]


def test_the_process_ends_with_its_input_and_writes_nothing_else_to_stdout() -> None:
    done = subprocess.run(
        command(*FILES, "--model", "none"),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, b""), done.stderr


def test_a_signal_ends_the_process_while_it_waits_for_input() -> None:
    process = subprocess.Popen(
        command(*FILES, "--model", "none"),
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    hello = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "test", "version": "0"},
        },
    }
    process.stdin.write(json.dumps(hello).encode() + b"\n")
    process.stdin.flush()
    assert json.loads(process.stdout.readline())["id"] == 1  # it serves
    process.send_signal(signal.SIGTERM)
    # Its input stays open: only the signal ends it.
    assert process.wait(PATIENCE_S) == 0
    rest, errors = process.stdout.read(), process.stderr.read() if process.stderr else b""
    process.communicate()
    assert rest == b""
    assert b"Traceback" not in errors


def test_http_needs_the_token_and_a_known_host_and_origin(tmp_path: Path) -> None:
    import httpx2

    secret = tmp_path / "token"
    secret.write_text(TOKEN)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ("--http", "--port", str(port), "--token-file", str(secret), "--model", "none")
    process = subprocess.Popen(command(*FILES, *options), cwd=ROOT, stderr=subprocess.PIPE)
    try:
        wait_for(port, process)
        url = f"http://127.0.0.1:{port}/mcp"
        bearer = {"Authorization": f"Bearer {TOKEN}"}

        async def statuses() -> list[int]:
            wrong = ({}, {"Authorization": "Bearer no"}, bearer | {"Host": "evil.example"})
            wrong = (*wrong, bearer | {"Origin": "http://evil.example"})
            async with httpx2.AsyncClient(timeout=PATIENCE_S) as client:
                return [
                    (await client.post(url, json={}, headers=headers)).status_code
                    for headers in wrong
                ]

        assert asyncio.run(statuses()) == [401, 401, 421, 403]

        async def conversation() -> tuple[list[str], Result]:
            async with httpx2.AsyncClient(headers=bearer, timeout=PATIENCE_S) as http:
                transport = streamable_http_client(url, http_client=http)
                async with mcp.Client(transport) as client:
                    tools = (await client.list_tools()).tools
                    stamp = (await client.call_tool("capture", {})).structured_content["stamp"]
                    regions = [{"label": "mug", "box": MUG}]
                    given = {"stamp": stamp, "regions": regions}
                    return [one.name for one in tools], await client.call_tool("measure", given)

        names, result = asyncio.run(conversation())
        assert names == TOOLS
        expected = document_of_command("--region", "mug=189,193,266,300")
        assert without_fitness(result.structured_content) == expected
    finally:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert TOKEN.encode() not in errors


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        else:
            return


@pytest.mark.parametrize(
    ("words", "status", "reason"),
    [
        ([], 2, "give --rgb"),
        ([*FILES, "--bag", "b"], 2, "give --rgb"),
        ([*FILES, "--node", "/n"], 2, "give --rgb"),
        ([*FILES, "--http", "--host", "0.0.0.0", "--model", "none"], 1, "--token-file"),
        ([*FILES, "--http", "--token-file", "/nowhere", "--model", "none"], 1, "/nowhere"),
        (["--rgb", "/nowhere.png", "--model", "none"], 1, "/nowhere.png"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_served(words, status, reason) -> None:
    done = CliRunner().invoke(app, ["mcp", *words])
    assert done.exit_code == status, done.output
    assert reason in " ".join(done.stderr.split())
    assert done.stdout == ""


def test_an_address_that_others_reach_needs_a_token() -> None:
    with pytest.raises(QueryError, match="--token-file"):
        Address("0.0.0.0", 8766)
    Address("0.0.0.0", 8766, TOKEN)
    Address("127.0.0.1", 8766)


def test_the_scripted_agent_decides_by_measuring() -> None:
    server = command(*FILES, "--model", "none")
    for box, opening, status in ((MUG, "0.13", 0), ([0, 0, 30, 30], "0.13", 1)):
        agent = [sys.executable, ROOT / "examples" / "agent.py", "mug", *map(str, box)]
        done = subprocess.run(
            [*agent, "--opening", opening, "--", *server],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == status, done.stderr
        decision = json.loads(done.stdout)
        assert decision["pick"] is (status == 0)
        assert decision["why"] or decision["position_m"][2] == pytest.approx(0.79, abs=0.01)


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
