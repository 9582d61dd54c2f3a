"""Any chat model behind an OpenAI-compatible server as a model of the evaluation.

An image and the words of a question go to the server as they are. Depth is no input of such a
model: it is shown as a second image, or written as a table of metres, or left out. Both forms lose
most of it: the picture has 8 bits a pixel, the table 48 numbers. What the model gets is what the
controls left of the frame, so that `--depth shuffled` changes these forms too.

Knows how a frame becomes a request and a reply an answer. Does not know HTTP (`chat`), benchmarks
or scores.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import numpy.typing as npt

from sdvlm_core.frame import RgbdFrame
from sdvlm_core.language.question import parse
from sdvlm_core.language.reading import measured, read
from sdvlm_core.model import confidence
from training.data.images import Rgb
from training.evaluate.chat import Chat, ChatError, ChatOptions, Reply, ServerUnusableError
from training.evaluate.outputs import NO_REPLY

if TYPE_CHECKING:
    from training.evaluate.predict import Answer

    #: A frame and the questions about it -> an answer to each, in order.
    AnswerFrame = Callable[[RgbdFrame, Sequence[str]], list[Answer]]

PREFIX = "openai:"
DepthAs = Literal["none", "picture", "text"]
DEPTH_AS: tuple[str, ...] = get_args(DepthAs)
#: Requests that fail one after the other before the run stops; a rerun resumes it.
MAX_FAILURES = 3
#: Cells of the table of depth, and percentiles of depth that the grey scale spans.
_COLUMNS, _ROWS = 8, 6
_SPAN = (1.0, 99.0)
_NO_READING = (40, 60, 160)

#: (prompt, images) -> reply; raises ChatError.
Request = Callable[[str, Sequence[Rgb]], Reply]


def endpoint_model(
    url: str, model: str, store: Path, depth_as: DepthAs, options: ChatOptions | None = None
) -> AnswerFrame:
    """A frame and questions -> the answers of a model on a server; one request a question.

    Args:
        url: base URL, including "/v1".
        model: name on the server, without "openai:".
        store: directory of stored replies: an interrupted run asks nothing twice.

    Raises:
        ServerUnusableError: the client library or the key is missing.
    """
    return answers_of_requests(Chat(url, model, store, options or ChatOptions()), depth_as)


def answers_of_requests(request: Request, depth_as: DepthAs) -> AnswerFrame:
    """As `endpoint_model`, with any function that makes a request.

    The returned function raises ServerUnusableError after `MAX_FAILURES` requests without a reply.
    """
    # Imported late: torch takes seconds, and the command line needs only names of this module.
    from training.evaluate.predict import Answer

    failed = 0

    def answers(frame: RgbdFrame, questions: Sequence[str]) -> list[Answer]:
        nonlocal failed
        images, words = shown_to_model(frame, depth_as)
        found = []
        for question in questions:
            started = time.perf_counter()
            try:
                reply = request(f"{words}{question}", images)
            except ChatError as error:
                failed += 1
                if failed >= MAX_FAILURES:
                    raise ServerUnusableError(
                        f"{failed} requests in a row have no reply, the last: {error}; "
                        "the same command resumes the run"
                    ) from error
                found.append(Answer("", error=f"{NO_REPLY} {error}"))
                continue
            failed = 0
            found.append(_answer(question, reply, time.perf_counter() - started))
        return found

    return answers


def shown_to_model(frame: RgbdFrame, depth_as: DepthAs) -> tuple[list[Rgb], str]:
    """The images of a request, and the words before its question; "" = none."""
    if depth_as == "none" or frame.depth is None or not np.isfinite(frame.depth).any():
        return [frame.rgb], ""
    camera = ""
    if (k := frame.intrinsics) is not None:
        camera = (
            f" The camera's focal length is {k.fx:.0f} x {k.fy:.0f} pixels in an image of "
            f"{k.width} x {k.height} pixels."
        )
    if depth_as == "text":
        return [frame.rgb], f"{depth_table(frame.depth)}{camera}\n\n"
    picture, near, far = depth_picture(frame.depth)
    words = (
        f"The second image shows the depth of the first: white is at most {near:.2f} m from the "
        f"camera, black at least {far:.2f} m, grey values in between are linear, and blue has no "
        "reading."
    )
    return [frame.rgb, picture], f"{words}{camera}\n\n"


def depth_picture(depth: npt.NDArray[np.float32]) -> tuple[Rgb, float, float]:
    """Depth (H, W) in metres as a grey picture, and the distances of white and of black.

    White is near. The scale is linear between the 1st and the 99th percentile of the readings, of
    which there must be at least one.
    """
    valid = np.isfinite(depth)
    near, far = (float(value) for value in np.percentile(depth[valid], _SPAN))
    part = np.clip((far - np.where(valid, depth, far)) / max(far - near, 1e-6), 0.0, 1.0)
    picture = np.repeat(np.round(255 * part).astype(np.uint8)[..., None], 3, axis=2)
    picture[~valid] = _NO_READING
    return picture, near, far


def depth_table(depth: npt.NDArray[np.float32]) -> str:
    """The median depth of 6 x 8 cells of the image in words, metres; "-" = no reading."""
    lines = []
    for band in np.array_split(depth, _ROWS, axis=0):
        cells = []
        for cell in np.array_split(band, _COLUMNS, axis=1):
            valid = cell[np.isfinite(cell)]
            cells.append(f"{np.median(valid):.2f}" if valid.size else "-")
        lines.append(" ".join(cells))
    table = "\n".join(lines)
    return (
        f"Depth of the image in metres, the median of each of {_ROWS} x {_COLUMNS} cells, from top "
        f"left to bottom right, - where there is no reading:\n{table}\n"
    )


def _answer(question: str, reply: Reply, seconds: float) -> Answer:
    """A reply with the confidence of its tokens; it is not calibrated."""
    from training.evaluate.predict import Answer

    text = reply.text.strip()
    reading = read(text, parse(question))
    kind = confidence.kind_of(reading, reading.measurements or measured(question, text))
    raw = confidence.raw(reply.pieces, reply.probabilities)
    return Answer(text, seconds, "", kind, raw, raw)
