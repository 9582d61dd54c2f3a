"""A local model hub: a real HTTP server with the parts of the hub's protocol that downloads use.

Serves one repository with one or two commits, and fails on request.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT, NEXT = "1" * 40, "2" * 40
NAME = "someone/tiny-llava"


@dataclass
class Hub:
    """The files of the server, its failures, and the requests it received."""

    files: dict[str, bytes]
    commit: str = COMMIT
    licence: str = "apache-2.0"
    break_after: int | None = None  # of the first GET of the weights
    corrupt: str = ""
    stalled: threading.Event | None = None  # set when a GET of the weights hangs half-way
    ranges: list[str] = field(default_factory=list)
    served: list[str] = field(default_factory=list)
    address: str = ""

    def listing(self) -> list[dict]:
        """Large files by sha256, the others as git knows them."""
        entries = []
        for path, content in self.files.items():
            blob = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
            entry = {"rfilename": path, "size": len(content), "blobId": blob}
            if path.endswith(".safetensors"):
                sha = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"sha256": sha, "size": len(content), "pointerSize": 100}
            entries.append(entry)
        return entries


def _handler(state: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def _send(self, status: int, body: bytes = b"", **headers: str) -> None:
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | headers).items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def _answer(self) -> None:
            path = unquote(urlsplit(self.path).path)
            if path.startswith(f"/api/models/{NAME}"):
                revision = path.rpartition("/revision/")[2] if "/revision/" in path else "main"
                if revision not in ("main", COMMIT, NEXT):
                    return self._send(404, X_Error_Code="RevisionNotFound")
                info = {
                    "id": NAME,
                    "sha": state.commit if revision == "main" else revision,
                    "siblings": state.listing(),
                    "cardData": {"license": state.licence},
                }
                return self._send(200, json.dumps(info).encode(), Content_Type="application/json")
            name = path.rpartition(f"/{NAME}/resolve/")[2].partition("/")[2]
            if name not in state.files:
                return self._send(404, X_Error_Code="RepoNotFound")
            return self._file(name, path)

        def _file(self, name: str, path: str) -> None:
            body = state.files[name]
            entry = next(entry for entry in state.listing() if entry["rfilename"] == name)
            tag = entry["lfs"]["sha256"] if "lfs" in entry else entry["blobId"]
            commit = path.rpartition("/resolve/")[2].partition("/")[0]
            headers = {"ETag": f'"{tag}"', "X_Repo_Commit": commit}
            if self.command == "HEAD":
                return self._send(200, body, **headers)
            state.served.append(name)
            if name == state.corrupt:
                body = bytes([body[0] ^ 1]) + body[1:]
            wanted = self.headers.get("Range")
            if wanted:
                state.ranges.append(wanted)
                start = int(wanted.removeprefix("bytes=").partition("-")[0])
                whole = len(body)
                headers["Content_Range"] = f"bytes {start}-{whole - 1}/{whole}"
                return self._send(206, body[start:], **headers)
            if state.stalled is not None and name.endswith(".safetensors"):
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: len(body) // 2])
                self.wfile.flush()
                state.stalled.set()
                with suppress(OSError):
                    self.connection.recv(1)  # until the client goes away
                return None
            if state.break_after is not None and name.endswith(".safetensors"):
                cut, state.break_after = state.break_after, None
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("ETag", f'"{tag}"')
                self.end_headers()
                self.wfile.write(body[:cut])
                self.wfile.flush()
                self.connection.close()
                return None
            return self._send(200, body, **headers)

    return Handler


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[Hub]:
    """A running hub that has these files as `NAME`; its `address` goes into HF_ENDPOINT."""
    state = Hub(files)
    running = ThreadingHTTPServer(("127.0.0.1", 0), _handler(state))
    state.address = f"http://127.0.0.1:{running.server_address[1]}"
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        running.shutdown()
        running.server_close()
        thread.join()
