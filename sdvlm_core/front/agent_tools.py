"""Tools: what the tools of agents do on a backend.

A frame is named by its stamp, pixels are those of its picture, and every result says whether to act
on it (`agent_results`). Does not know MCP's server or transports.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
from mcp.server.mcpserver import Image
from mcp.types import CallToolResult, TextContent

from sdvlm_core.answer import Asked, Quantity
from sdvlm_core.errors import FrameError, QueryError, shown
from sdvlm_core.frame import Region
from sdvlm_core.front import agent_results as results
from sdvlm_core.front.agent_arguments import PlaceArgument, Point, TypedArgument, asked_from
from sdvlm_core.front.agent_pictures import Picture, jpeg, picture_of
from sdvlm_core.front.backend import Backend, Shot
from sdvlm_core.language.question import check

#: Pictures that are remembered, without their images.
MAX_PICTURES = 64
#: Centres of two objects differ by more, metres.
_SAME_PLACE_M = 1e-3


@dataclass(frozen=True, eq=False)
class Tools:
    """The tools on a backend; safe to call from several threads.

    Arguments `go_on` return False when the caller has canceled.
    """

    backend: Backend
    _pictures: OrderedDict[int, Picture] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def capture(self, at_s: float | None) -> CallToolResult:
        """A new picture; the stamp names it."""
        shot, picture = self._new(at_s)
        data, (width, height) = jpeg(shot, picture.scale)
        depth = shot.depth
        captured = results.Captured(
            **picture.of_frame(),
            **results.fitness(shot.cautions),
            width=width,
            height=height,
            has_depth=depth is not None,
            depth_valid_fraction=0.0 if depth is None else float(np.isfinite(depth).mean()),
            source=f"{self.backend.origin.kind} {shown(self.backend.origin.name)}",
        )
        text = TextContent(type="text", text=captured.model_dump_json())
        image = Image(data=data, format="jpeg").to_image_content()
        return CallToolResult(
            content=[image, text], structured_content=captured.model_dump(mode="json")
        )

    def measure(self, stamp: str, regions: Sequence[PlaceArgument]) -> results.MeasureResult:
        """Regions measured from depth."""
        picture = self._known(stamp)
        document = self.backend.measure(picture.stamp_ns, [picture.region(one) for one in regions])
        return results.MeasureResult(
            **picture.of_frame(document["cautions"]),
            regions=[results.region_result(one) for one in document["regions"]],
            pairs=[results.pair_result(one) for one in document["pairs"]],
        )

    def ask(
        self,
        questions: Sequence[str | TypedArgument],
        regions: Sequence[PlaceArgument],
        verify: bool,
        stamp: str,
        go_on: Callable[[], bool],
    ) -> results.AskResult:
        """Answers of the model about one frame."""
        if regions and not verify:
            raise QueryError("regions need verify: set it, or leave them out")
        picture = self._for_regions(stamp, bool(regions))
        asked = [asked_from(one) for one in questions]
        documents = self.backend.ask(
            picture.stamp_ns,
            asked,
            [picture.region(one) for one in regions],
            verify,
            lambda _index, _text: go_on(),
        )
        return results.AskResult(
            **picture.of_frame(),
            answers=[
                results.answer_result(document, question if isinstance(question, str) else "")
                for document, question in zip(documents, asked, strict=True)
            ],
        )

    def locate(
        self, name: str, place: PlaceArgument | None, stamp: str, go_on: Callable[[], bool]
    ) -> results.LocateResult:
        """The position of one object.

        Raises:
            NotCertainError: it is not certainly found, or is not fit to act on.
        """
        if place is not None:
            picture, how = self._for_regions(stamp, True), "measured in the region that you gave"
            measured = self.measure(stamp, [place])
            (region,), cautions = measured.regions, measured.cautions
        else:
            picture, how = self._for_regions(stamp, False), "measured where the model points"
            (one,), cautions = self._find(picture, [name], go_on)
            if one.measured is None or not one.fit_to_act_on:
                raise results.NotCertainError(f"{name}: {one.why_not}")
            region = one.measured
        if not region.fit_to_act_on:
            raise results.NotCertainError(
                f"{name}: the measurement is unfit to act on: {region.why_not}"
            )
        located = {
            **picture.of_frame(cautions),
            **results.fitness(()),
            "name": name,
            "position_m": region.position_m,
            "std_dev_m": region.std_dev.position_m,
            "camera_distance_m": region.camera_distance_m,
            "how": how,
            "measured": region,
        }
        return results.LocateResult.model_validate(located)

    def find(
        self, names: Sequence[str], stamp: str, go_on: Callable[[], bool]
    ) -> results.FindResult:
        """Named objects: where the model points, and what depth measures there."""
        picture = self._for_regions(stamp, False)
        found, cautions = self._find(picture, names, go_on)
        return results.FindResult(**picture.of_frame(cautions), detections=found)

    def _find(
        self, picture: Picture, names: Sequence[str], go_on: Callable[[], bool]
    ) -> tuple[list[results.FoundResult], list[str]]:
        kinds = (Quantity.EXISTS, Quantity.POSITION)
        asked = [Asked(kind, (name,)) for name in names for kind in kinds]
        for one in asked:
            check(one)
        stamp_ns = picture.stamp_ns
        documents = self.backend.ask(stamp_ns, asked, on_text=lambda _index, _text: go_on())
        points: dict[str, Point] = {}
        reasons: dict[str, str] = {}
        for name, exists, where in zip(names, documents[::2], documents[1::2], strict=True):
            point = _pointed_at(picture, exists, where)
            if isinstance(point, str):
                reasons[name] = point
            else:
                points[name] = point
        regions = [Region(name, point=point) for name, point in points.items()]
        measured, cautions = {}, [*picture.cautions]
        if regions:
            document = self.backend.measure(stamp_ns, regions)
            cautions = document["cautions"]
            measured = {one["label"]: results.region_result(one) for one in document["regions"]}
        reasons |= _same_places(measured)
        return [
            _found(name, reasons.get(name, ""), points.get(name), measured.get(name), picture)
            for name in names
        ], cautions

    def _new(self, at_s: float | None = None) -> tuple[Shot, Picture]:
        shot = self.backend.capture(at_s)
        picture = picture_of(shot)
        with self._lock:
            self._pictures[shot.stamp_ns] = picture
            self._pictures.move_to_end(shot.stamp_ns)
            while len(self._pictures) > MAX_PICTURES:
                self._pictures.popitem(last=False)
        return shot, picture

    def _for_regions(self, stamp: str, regions: bool) -> Picture:
        """The picture of a stamp, or a new one, which has no regions yet."""
        if stamp:
            return self._known(stamp)
        if regions:
            raise QueryError("a region belongs to a picture: give the stamp that capture returned")
        return self._new()[1]

    def _known(self, stamp: str) -> Picture:
        if not (stamp.isascii() and stamp.isdigit()):
            raise QueryError(f"{shown(stamp, 40)!r} is no stamp: give the one of capture")
        with self._lock:
            picture = self._pictures.get(int(stamp))
        if picture is None:
            raise FrameError(f"there is no picture of stamp {stamp}: call capture first")
        return picture


def _pointed_at(picture: Picture, exists: dict[str, Any], where: dict[str, Any]) -> Point | str:
    """The pixel of the camera's image where the model says an object is, or why there is none."""
    for document in (exists, where):
        if "error" in document:
            return f"{document['error']['code']}: {document['error']['message']}"
    if exists["verdict"] == "DOES_NOT_HOLD" or where["status"] == "NOT_VISIBLE":
        return "the model says that it is not in the picture"
    if exists["verdict"] != "HOLDS":
        return "the model does not say clearly whether it is in the picture"
    if len(where["positions"]) != 1:
        return "the model points at no single place with a depth reading"
    point = picture.pixel_of(where["positions"][0])
    return "the model points outside the picture" if point is None else point


def _same_places(measured: Mapping[str, results.RegionResult]) -> dict[str, str]:
    """Names that got one object: of which of them it is, nothing here can tell."""
    reasons = {}
    known = {name: one.position_m for name, one in measured.items() if one.fit_to_act_on}
    for (a, at), (b, there) in combinations(known.items(), 2):
        if math.dist(at, there) < _SAME_PLACE_M:  # type: ignore[arg-type]  # fit: no null
            reasons[a] = f"{b} is at the same place: whose place it is, is not certain"
            reasons[b] = f"{a} is at the same place: whose place it is, is not certain"
    return reasons


def _found(
    name: str,
    reason: str,
    point: Point | None,
    measured: results.RegionResult | None,
    picture: Picture,
) -> results.FoundResult:
    why = reason or ("" if measured is None else measured.why_not)
    fit = measured is not None and not why
    return results.FoundResult(
        name=name,
        found=point is not None,
        point_px=None if point is None else picture.shown_point(point),
        box_px=picture.outline(measured) if measured is not None and fit else None,
        measured=measured,
        fit_to_act_on=fit,
        why_not=why,
    )
