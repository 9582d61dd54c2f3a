"""The page's server: a starlette app that shows a backend's frames, measures and asks.

The page is three files of assets/page. Calls of the backend block, so they run in threads; their
number is bounded. Everything that comes in is bounded before it is used (`page_documents`), and who
may call is decided before (`guard`). Does not know where frames come from, and opens no file but
the page's.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.resources import files
from typing import Any

import cv2
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from sdvlm_core import __version__
from sdvlm_core.errors import FrameError, QueryError, QueueFullError
from sdvlm_core.frame import Region
from sdvlm_core.front import page_documents as documents
from sdvlm_core.front.backend import Backend, OnText
from sdvlm_core.front.caution_words import caution_words
from sdvlm_core.front.guard import COOKIE, Access, Guard
from sdvlm_core.front.page_documents import Taken
from sdvlm_core.front.snippets import measurement_snippets, question_snippets
from sdvlm_core.front.source import Source
from sdvlm_core.language.object_names import matched_name
from sdvlm_core.language.question import parse
from sdvlm_core.model.prompt import MAX_QUESTION_CHARS, check_question

#: Largest body of a request; 16 regions with long labels have 4 KiB.
MAX_BODY_BYTES = 64 << 10
#: Questions that are answered or wait, and frames and measurements in work; more are refused.
MAX_ASKING, MAX_CALLS = 4, 8
#: Frames whose pictures the page can load; the backend holds as many.
_SHOWN_FRAMES = 8
_JPEG_QUALITY = 92
# How often a stream looks whether its reader is still there.
_HEARTBEAT_S = 1.0
_ASSETS = {
    "/": ("index.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
}
_OPEN_PATHS = (*_ASSETS, "/favicon.ico", "/api/login")

_log = logging.getLogger(__name__)


def make_app(backend: Backend, source: Source, access: Access) -> ASGIApp:
    """The app of the page."""
    page = _Page(backend, source, access)
    routes = [Route(path, _asset(*asset)) for path, asset in _ASSETS.items()]
    # Browsers ask for it without being told; the page has no icon.
    routes.append(Route("/favicon.ico", _no_icon))
    routes += [
        Route("/api/login", page.login, methods=["POST"]),
        Route("/api/state", page.state),
        Route("/api/capture", page.capture, methods=["POST"]),
        Route("/api/shots/{stamp}/rgb.jpg", page.rgb),
        Route("/api/shots/{stamp}/depth", page.depth),
        Route("/api/measure", page.measure, methods=["POST"]),
        Route("/api/ask", page.ask, methods=["POST"]),
    ]
    return Guard(Starlette(routes=routes), access, _OPEN_PATHS)


Endpoint = Callable[[Request], Awaitable[Response]]


def _asset(name: str, media_type: str) -> Endpoint:
    content = (files("sdvlm_core") / "assets" / "page" / name).read_bytes()

    async def endpoint(_: Request) -> Response:
        return Response(content, media_type=media_type)

    return endpoint


async def _no_icon(_: Request) -> Response:
    return Response(status_code=204)


def _answering(method: Callable[[Any, Request], Awaitable[Response]]) -> Any:
    """An endpoint whose errors become JSON: what the caller did wrong, 422; a defect, 500."""

    async def endpoint(self: _Page, request: Request) -> Response:
        try:
            return await method(self, request)
        except _TooLarge as error:
            return JSONResponse(documents.error_document(error), 413)
        except Exception as error:  # noqa: BLE001 - logged, and shown by the page
            document = documents.error_document(error)
            if document["error"]["code"] == "UNKNOWN":
                _log.exception("%s failed", request.url.path)
                return JSONResponse(document, 500)
            status = 429 if isinstance(error, QueueFullError) else 422
            return JSONResponse(document, status)

    return endpoint


class _TooLarge(QueryError):
    """The body of a request is larger than MAX_BODY_BYTES."""


class _Page:
    """The endpoints, and the frames that they show."""

    def __init__(self, backend: Backend, source: Source, access: Access) -> None:
        self._backend = backend
        self._source = source
        self._access = access
        self._taken: OrderedDict[int, Taken] = OrderedDict()
        self._calls = threading.BoundedSemaphore(MAX_CALLS)
        self._asking = threading.BoundedSemaphore(MAX_ASKING)

    @_answering
    async def login(self, request: Request) -> Response:
        """Exchange the token for a cookie, which scripts cannot read."""
        token = (await _body(request)).get("token")
        if not isinstance(token, str) or not self._access.is_token(token):
            raise QueryError("that is not the token: it is in the address that sdvlm view printed")
        response = JSONResponse({"ok": True})
        response.set_cookie(COOKIE, token, httponly=True, samesite="strict", path="/")
        return response

    @_answering
    async def state(self, _: Request) -> Response:
        """Where frames come from, what is allowed, and the cautions in words."""
        origin = self._backend.origin
        return JSONResponse(
            {
                "version": __version__,
                "kind": origin.kind,
                "name": origin.name,
                "duration_s": origin.duration_s,
                "model": origin.model,
                "max_regions": documents.MAX_REGIONS,
                "max_label": documents.MAX_LABEL_CHARS,
                "max_question": MAX_QUESTION_CHARS,
                "cautions": caution_words(),
            }
        )

    @_answering
    async def capture(self, request: Request) -> Response:
        """Take a frame; {"at_s": seconds or null}."""
        at_s = documents.parse_time((await _body(request)).get("at_s"))
        shot = await self._call(lambda: self._backend.capture(at_s))
        taken = documents.taken_now(shot, at_s, live=self._backend.origin.kind == "node")
        self._taken[shot.stamp_ns] = taken
        self._taken.move_to_end(shot.stamp_ns)
        while len(self._taken) > _SHOWN_FRAMES:
            self._taken.popitem(last=False)
        return JSONResponse(documents.shot_document(taken))

    @_answering
    async def rgb(self, request: Request) -> Response:
        """The colour image of a frame, JPEG."""
        rgb = self._shown(request.path_params["stamp"]).shot.rgb
        options = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
        bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
        _, data = await run_in_threadpool(cv2.imencode, ".jpg", bgr, options)
        return Response(data.tobytes(), media_type="image/jpeg")

    @_answering
    async def depth(self, request: Request) -> Response:
        """The depth of a frame, `depth_bytes`."""
        depth = self._shown(request.path_params["stamp"]).shot.depth
        if depth is None:
            raise FrameError("this frame has no depth")
        data = await run_in_threadpool(documents.depth_bytes, depth)
        return Response(data, media_type="application/octet-stream")

    @_answering
    async def measure(self, request: Request) -> Response:
        """Measure; {"stamp", "regions"} -> the document of `sdvlm measure --json`, and drawings."""
        body = await _body(request)
        taken = self._shown(body.get("stamp"))
        regions = documents.parse_regions(body.get("regions"))
        stamp_ns = taken.shot.stamp_ns
        found = await self._call(lambda: self._backend.measure(stamp_ns, regions))
        reply = {
            "document": found,
            "boxes": documents.boxes_document(taken.shot, found["regions"]),
            "copy": measurement_snippets(self._source, regions, taken.at_s, stamp_ns),
        }
        return JSONResponse(reply)

    @_answering
    async def ask(self, request: Request) -> Response:
        """Ask; {"stamp", "question", "regions", "verify"} -> lines of JSON.

        {"text": ...} for each new part, then {"error": ...} or {"answer": ..., "regions": labels
        that were used, "copy": ...}. Empty lines in between show that the server is there.
        """
        body = await _body(request)
        taken = self._shown(body.get("stamp"))
        question, verify = body.get("question"), body.get("verify", False)
        if not isinstance(question, str) or not isinstance(verify, bool):
            raise QueryError("question is a text, and verify true or false")
        question = check_question(question)
        regions = documents.parse_regions(body.get("regions", [])) if verify else []
        used = _named(regions, question)
        if not self._asking.acquire(blocking=False):
            raise QueueFullError(f"{MAX_ASKING} questions are being answered: ask again later")
        stamp_ns = taken.shot.stamp_ns
        origin = self._backend.origin
        copy = question_snippets(self._source, question, used, verify, taken.at_s, stamp_ns, origin)
        done = {"regions": [one.label for one in used], "copy": copy}

        def ask(on_text: OnText) -> dict[str, Any]:
            (document,) = self._backend.ask(stamp_ns, [question], used, verify, on_text)
            return document if "error" in document else {"answer": document, **done}

        lines = self._stream(request, ask)
        return StreamingResponse(lines, media_type="application/x-ndjson")

    async def _stream(
        self, request: Request, ask: Callable[[OnText], dict[str, Any]]
    ) -> AsyncIterator[str]:
        """The lines of a question that is answered in a thread; it is canceled if nobody reads."""
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        left = threading.Event()

        def tell(event: dict[str, Any]) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(events.put_nowait, event)

        def on_text(_: int, text: str) -> bool:
            if text:
                tell({"text": text})
            return not left.is_set()

        def answer() -> None:
            try:
                tell(ask(on_text))
            except Exception as error:  # noqa: BLE001 - logged, and shown by the page
                document = documents.error_document(error)
                if document["error"]["code"] == "UNKNOWN":
                    _log.exception("a question failed")
                tell(document)
            finally:
                self._asking.release()

        # A daemon: a model that computes for a minute must not keep the server from ending.
        threading.Thread(target=answer, name="ask", daemon=True).start()
        try:
            while True:
                try:
                    event = await asyncio.wait_for(events.get(), _HEARTBEAT_S)
                except asyncio.TimeoutError:
                    if await request.is_disconnected():
                        return
                    yield "\n"
                    continue
                yield json.dumps(event, allow_nan=False) + "\n"
                if "text" not in event:
                    return
        finally:
            left.set()

    def _shown(self, stamp: object) -> Taken:
        stamp_ns = documents.parse_stamp(stamp)
        if stamp_ns not in self._taken:
            raise FrameError(f"the frame of stamp {stamp_ns} ns is not shown any more: take one")
        return self._taken[stamp_ns]

    async def _call(self, work: Callable[[], Any]) -> Any:
        """Run a blocking call in a thread; QueueFullError if many are running."""
        if not self._calls.acquire(blocking=False):
            raise QueueFullError(f"{MAX_CALLS} calls are running: try again")
        try:
            return await run_in_threadpool(work)
        finally:
            self._calls.release()


async def _body(request: Request) -> dict[str, Any]:
    """The JSON object of a request, read up to its limit."""
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > MAX_BODY_BYTES:
            raise _TooLarge(f"a request has at most {MAX_BODY_BYTES} bytes")
    return documents.parse_body(bytes(data))


def _named(regions: list[Region], question: str) -> list[Region]:
    """The regions of the objects that a question is about; the others have no part in it."""
    objects = parse(question).objects
    return [region for region in regions if matched_name(region.label, objects) is not None]
