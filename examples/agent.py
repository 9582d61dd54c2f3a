#!/usr/bin/env python3
"""An agent that measures through `sdvlm mcp`: lists the tools, captures, measures, decides.

The agent is a script, so no language model is needed; `choose` is the place for a real one. What
follows `--` starts the server:

    python3 examples/agent.py mug 189 193 266 300 --opening 0.12 -- \\
        sdvlm mcp --rgb docs/table/rgb.png --depth docs/table/depth.png \\
        --intrinsics docs/table/intrinsics.json --model none

Prints the calls on stderr and the decision as one line of JSON. Exit status 0 = it may be picked,
1 = it may not, with the reason.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Generator
from typing import Any

from mcp import Client, StdioServerParameters

Call = tuple[str, dict[str, Any]]
MAX_CALLS = 10


def choose(
    tools: list[str], name: str, box: list[float], opening_m: float
) -> Generator[Call, dict[str, Any], dict[str, Any]]:
    """Yields tool calls, is sent their structured results, and returns the decision.

    A language model replaces this function: give it the tools (`client.list_tools()`: names,
    descriptions and JSON schemas are what its API wants), `client.instructions` and the picture;
    yield the calls that it makes, and send it the results. Keep the rule below out of its hands.
    """
    missing = {"capture", "measure"} - {*tools}
    if missing:
        return {"pick": False, "why": f"the server has no tool {', '.join(sorted(missing))}"}
    seen = yield "capture", {}
    if "code" in seen:
        return {"pick": False, "why": f"{seen['code']}: {seen['message']}"}
    region = {"label": name, "box": box}
    result = yield "measure", {"stamp": seen["stamp"], "regions": [region]}
    if "code" in result:
        return {"pick": False, "why": f"{result['code']}: {result['message']}"}
    (measured,) = result["regions"]
    # The rule: act only on what is fit, and reckon with the upper end of the 90 % interval.
    if not measured["fit_to_act_on"]:
        return {"pick": False, "why": measured["why_not"]}
    width_m = measured["interval_90"]["width_m"][1]
    if width_m is None or width_m > opening_m:
        return {"pick": False, "why": f"up to {width_m} m wide, the gripper opens to {opening_m} m"}
    return {
        "pick": True,
        "why": "",
        "position_m": measured["position_m"],
        "frame_id": result["frame_id"],
        "stamp": result["stamp"],
        "width_m": measured["width_m"],
    }


async def run(server: list[str], arguments: argparse.Namespace) -> dict[str, Any]:
    """Let `choose` act on the server until it decides."""
    async with Client(StdioServerParameters(command=server[0], args=server[1:])) as client:
        tools = [tool.name for tool in (await client.list_tools()).tools]
        print(f"tools: {', '.join(tools)}", file=sys.stderr)
        agent = choose(tools, arguments.name, arguments.box, arguments.opening)
        result: dict[str, Any] | None = None
        for _ in range(MAX_CALLS):
            try:
                tool, options = next(agent) if result is None else agent.send(result)
            except StopIteration as decided:
                return dict(decided.value)
            print(f"{tool} {json.dumps(options)}", file=sys.stderr)
            reply = await client.call_tool(tool, options)
            # An error too has structured content: code, message, what_to_do.
            result = dict(reply.structured_content or {})
        return {"pick": False, "why": f"no decision after {MAX_CALLS} calls"}


def main() -> int:
    """Run the agent once and print its decision."""
    words = sys.argv[1:]
    split = words.index("--") if "--" in words else len(words)
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0], epilog="after `--`: the command of the server"
    )
    parser.add_argument("name", help="of the object")
    parser.add_argument(
        "box", type=float, nargs=4, metavar="PIXEL", help="its box in the picture: x1 y1 x2 y2"
    )
    parser.add_argument("--opening", type=float, default=0.10, help="of the gripper, metres")
    arguments = parser.parse_args(words[:split])
    server = words[split + 1 :]
    if not server:
        parser.error(
            "give the server's command after `--`, e.g. -- sdvlm mcp --node /spatial_query"
        )
    decision = asyncio.run(run(server, arguments))
    print(json.dumps(decision))
    return 0 if decision["pick"] else 1


if __name__ == "__main__":
    sys.exit(main())
