"""What the tests of the agents' tools share: the frame, a client, and the command's documents."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from typer.testing import CliRunner

mcp = pytest.importorskip("mcp")


from sdvlm_core.cli.app import app  # noqa: E402
from tests.paths import ROOT  # noqa: E402
from tests.waiting import PATIENCE_S  # noqa: E402

TABLE = ROOT / "docs" / "table"
FILES = [
    *("--rgb", str(TABLE / "rgb.png"), "--depth", str(TABLE / "depth.png")),
    *("--intrinsics", str(TABLE / "intrinsics.json")),
]
MUG, CAN = [189, 193, 266, 300], [332, 131]
TOOLS = ["capture", "measure", "ask", "locate", "find_detections"]
Result = mcp.types.CallToolResult


def talk(server: Any, conversation: Callable[[Any], Awaitable[Any]]) -> Any:
    """What a conversation of the SDK's client with a server returns."""

    async def connected() -> Any:
        async with mcp.Client(server, read_timeout_seconds=PATIENCE_S) as client:
            return await conversation(client)

    return asyncio.run(connected())


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
