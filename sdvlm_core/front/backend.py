"""Backend: what the page and the server of tools ask, whoever answers.

`offline` answers from image files and bags with an engine of its own, `sdvlm_ros.live_backend` from
a running node. All documents are those that `sdvlm ask --json` and `sdvlm measure --json` print:
SI units, null = unknown, codes by name. Does not know HTTP, agents, engines or ROS.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from sdvlm_core.answer import Asked
from sdvlm_core.camera.as_taken import images_as_taken, projection_as_taken
from sdvlm_core.frame import Lens, Region, RgbdFrame

#: What `ask` calls while the text is generated: the index of a question and what is new of its
#: text. It returns False to cancel.
OnText = Callable[[int, str], bool]


@dataclass(frozen=True)
class Origin:
    """Where frames come from.

    Attributes:
        kind: "files", "bag" or "node".
        name: the file, the bag or the node, for people.
        duration_s: length of a bag, seconds; 0 for others.
        model: name of the model; "" = none, so that only measuring is possible.
        server, served_model: where its language model is, as of `LoadOptions`; "" = here.
    """

    kind: str
    name: str
    duration_s: float = 0.0
    model: str = ""
    server: str = ""
    served_model: str = ""


@dataclass(frozen=True, eq=False)
class Shot:
    """A frame as it is shown: the camera's own image, in whose pixels regions are.

    Attributes:
        stamp_ns: of the frame; names it in later calls.
        frame_id: the colour optical frame.
        rgb: (H, W, 3) uint8, red first.
        depth: (H, W) float32 metres, NaN = no reading; None = the frame has no depth.
        cautions: codes of what the camera's data made doubtful.
        camera: the projection of `rgb`, without coefficients a pinhole's; None = unknown, so that
            boxes cannot be drawn.
    """

    stamp_ns: int
    frame_id: str
    rgb: npt.NDArray[np.uint8]
    depth: npt.NDArray[np.float32] | None
    cautions: tuple[str, ...] = ()
    camera: Lens | None = None


def shot_of(frame: RgbdFrame) -> Shot:
    """How a frame is shown: as the camera took it, also where it was rectified."""
    rgb, depth = images_as_taken(frame)
    return Shot(
        stamp_ns=frame.stamp_ns,
        frame_id=frame.frame_id,
        rgb=rgb,
        depth=depth,
        cautions=tuple(code.value for code in frame.cautions),
        camera=projection_as_taken(frame),
    )


class Backend(Protocol):
    """Frames, measurements and answers; methods block and may be called from several threads.

    Every method raises an `SdvlmError`, whose code `errors.error_code` gives, or the client's error
    with the code of the node. A stamp that is no longer held is a `FrameError`: another frame is
    never taken for it.
    """

    @property
    def origin(self) -> Origin:
        """Where the frames come from."""
        ...

    def capture(self, at_s: float | None = None) -> Shot:
        """Take a frame and hold it for later calls: the newest; of a bag, the one nearest `at_s`.

        The backend holds at least the last eight. Only a bag has times: `at_s` of another origin is
        a `QueryError`.
        """
        ...

    def measure(self, stamp_ns: int, regions: Sequence[Region]) -> dict[str, Any]:
        """Measure from depth, without a model: the document of `sdvlm measure --json`."""
        ...

    def ask(
        self,
        stamp_ns: int,
        questions: Sequence[str | Asked],
        regions: Sequence[Region] = (),
        verify: bool = False,
        on_text: OnText | None = None,
    ) -> list[dict[str, Any]]:
        """Ask about one frame; documents of `answer.answer_document`, in the order asked.

        With `verify` a document has "checks" (`verification.checked_document`, where the backend
        has them), and every region must be of an asked object. Without it regions have no effect.
        A question that fails alone has the document {"error": {"code", "message"}}; the code is the
        name of an `ErrorCode`.
        """
        ...

    def close(self) -> None:
        """Give back what the backend holds; it is not called afterwards."""
        ...
