#!/usr/bin/env python3
"""A patrol: asks the same question every 10 s for months, whatever happens to camera and node.

Prints one line of JSON for each round: the answer, or the error and what the patrol does about it.
The table below has every error code; a node that restarts or loads its model is waited for.

    python3 examples/patrol.py "How many mugs are on the table?" --every 10

Ctrl-C or SIGTERM ends it with status 0, an error that no waiting mends with status 1.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from datetime import datetime, timezone
from typing import Any

from sdvlm.srv import SpatialQuery
from sdvlm_core.answer import Quantity, Source, without_nan
from sdvlm_ros.client import SpatialClient, SpatialQueryFailed

Code = SpatialQuery.Response
#: Ask again in the next round: it may pass by itself.
NEXT_ROUND = "ask again in the next round"
#: The node may be restarting.
WAIT = "wait for the node"
#: A person must change something.
STOP = "stop: a person must look at it"
REACTIONS: dict[int, str] = {
    Code.NONE: NEXT_ROUND,  # an answer without a usable value
    Code.NO_IMAGE: NEXT_ROUND,  # the camera does not run yet
    Code.STALE_IMAGE: NEXT_ROUND,  # the camera has stopped
    Code.BAD_DEPTH: NEXT_ROUND,  # a covered lens has no depth either
    Code.BAD_CAMERA_INFO: STOP,  # the camera is not calibrated
    Code.INVALID_QUERY: STOP,  # this question will never be accepted
    Code.MODEL_NOT_READY: WAIT,
    Code.OUT_OF_MEMORY: NEXT_ROUND,
    Code.TIMEOUT: WAIT,  # it may have crashed
    Code.TF_ERROR: NEXT_ROUND,
    Code.CANCELED: NEXT_ROUND,  # the node is closing, or was deactivated
    Code.QUEUE_FULL: NEXT_ROUND,
    Code.UNKNOWN: STOP,  # a defect of the node
}


def ask_once(client: SpatialClient, question: str, timeout_s: float) -> dict[str, Any]:
    """One round: the answer, or the error and the reaction."""
    try:
        answer = client.ask(question, verify=True, timeout=timeout_s)
    except SpatialQueryFailed as failed:
        reaction = REACTIONS.get(failed.code, STOP)
        return {"error": str(failed), "reaction": reaction}
    numbers = [
        {
            "quantity": Quantity(one.kind).name,
            "objects": list(one.objects),
            "value": one.value,
            "std_dev": one.std_dev,
            "source": Source(one.source).name,
        }
        for one in answer.measurements
    ]
    found = {"text": answer.text, "status": answer.status, "cautions": list(answer.cautions)}
    return found | {"numbers": numbers}


def wait_for(client: SpatialClient, timeout_s: float) -> None:
    """Wait for the node; after `timeout_s` the next round says why it is not there."""
    try:
        client.wait_for_node(timeout_s)
    except SpatialQueryFailed as failed:
        print(f"patrol: {failed}", file=sys.stderr)


def main() -> int:
    """Ask until a signal, or until a person is needed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("question")
    parser.add_argument("--every", type=float, default=10.0, help="period, seconds")
    parser.add_argument("--rounds", type=int, default=0, help="0 = without end")
    parser.add_argument("--timeout", type=float, default=30.0, help="of one question, seconds")
    parser.add_argument("--server", default="/spatial_query", help="name of the node")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with SpatialClient(arguments.server) as client:
        next_s, rounds = time.monotonic(), 0
        while not arguments.rounds or rounds < arguments.rounds:
            rounds += 1
            found = ask_once(client, arguments.question, arguments.timeout)
            now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
            print(json.dumps(without_nan({"time": now, **found})), flush=True)
            if found.get("reaction") == STOP:
                return 1
            if found.get("reaction") == WAIT:
                wait_for(client, arguments.every)
            # From the last planned time, so that rounds do not drift; missed ones are left out.
            next_s = max(next_s + arguments.every, time.monotonic())
            time.sleep(max(0.0, next_s - time.monotonic()))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(0)
