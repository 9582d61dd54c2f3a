"""A real vLLM server with nano, started by `sdvlm serve`; `make test-serving` says which Python."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from sdvlm_core.engine import LoadOptions, SpatialEngine, load_engine
from tests.paths import ROOT
from tests.waiting import PATIENCE_S

#: The Python of the environment with vLLM.
PYTHON = os.environ.get("SDVLM_SERVING_PYTHON", "")
KEY = "a-key-of-the-tests"
START_S = 300.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    mine = [item for item in items if Path(__file__).parent in item.path.parents]
    for item in mine if not PYTHON else ():
        item.add_marker(pytest.mark.skip(reason="needs vLLM: make test-serving"))


@dataclass
class Serving:
    """`sdvlm serve nano` on a free port; may be killed and started again."""

    folder: Path
    port: int
    process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        words = [
            "serve",
            "nano",
            "--python",
            PYTHON,
            "--port",
            str(self.port),
            "--dtype",
            "float32",
        ]
        words += ["--out", str(self.folder / "nano"), "--questions", "48", "--context", "512"]
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sdvlm_core.cli", *words],
                cwd=ROOT,
                env=os.environ | {"SDVLM_SERVER_KEY": KEY, "VLLM_CPU_KVCACHE_SPACE": "1"},
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("ready"), (self.folder / "log").read_text()[-4000:]

    def kill(self) -> None:
        """End vLLM at once, as the kernel does when memory is short."""
        assert self.process is not None
        for child in psutil.Process(self.process.pid).children(recursive=True):
            child.kill()
        assert self.process.wait(PATIENCE_S) == 1

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            children = psutil.Process(self.process.pid).children(recursive=True)
            self.process.send_signal(signal.SIGINT)
            self.process.wait(PATIENCE_S)
            _, alive = psutil.wait_procs(children, timeout=PATIENCE_S)
            assert not alive, "vLLM outlived sdvlm serve"

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=PATIENCE_S) as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name))

    def wait_until_idle(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while self.metric("vllm:num_requests_running") and time.monotonic() < deadline:
            time.sleep(0.1)
        assert self.metric("vllm:num_requests_running") == 0


@pytest.fixture(scope="session")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = Serving(tmp_path_factory.mktemp("serving"), port)
    started.start()
    yield started
    started.stop()


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDVLM_SERVER_KEY", KEY)


@pytest.fixture
def served(serving: Serving, key: None) -> Iterator[SpatialEngine]:
    engine = load_engine(LoadOptions("nano", "cpu", "float32", server=serving.url))
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def local() -> SpatialEngine:
    return load_engine(LoadOptions("nano", "cpu", "float32"))
