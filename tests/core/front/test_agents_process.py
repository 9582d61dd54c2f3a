"""`sdvlm mcp` as a process: stdio, HTTP, signals and wrong options."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

mcp = pytest.importorskip("mcp")

from mcp.client.streamable_http import streamable_http_client  # noqa: E402

from sdvlm_core.cli.app import app  # noqa: E402
from sdvlm_core.errors import QueryError  # noqa: E402
from sdvlm_core.front.agent_serving import Address  # noqa: E402
from tests.core.front.agents import (  # noqa: E402
    FILES,
    MUG,
    TOOLS,
    Result,
    document_of_command,
    failure,
    talk,
    without_fitness,
)
from tests.paths import ROOT  # noqa: E402
from tests.waiting import PATIENCE_S  # noqa: E402

TOKEN = "a secret of the test"


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
