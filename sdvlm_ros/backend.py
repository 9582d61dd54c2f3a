"""Backend: the parts of a node that its services, its action and its own questions share.

Does not know what each part does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sdvlm_ros.dispatch import Dispatcher
from sdvlm_ros.outputs import Outputs
from sdvlm_ros.tally import Tally
from sdvlm_ros.transforms import Transforms


@dataclass(frozen=True, eq=False)
class Backend:
    """From a request to its answer, to the counters and the publications, by camera."""

    dispatcher: Dispatcher
    tally: Tally
    outputs: Mapping[str, Outputs]
    transforms: Transforms
