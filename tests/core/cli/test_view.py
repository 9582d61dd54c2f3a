"""`sdvlm view` as people start and stop it; the page itself is tested in tests/core/front."""

from __future__ import annotations

import json
import signal
import socket
import sys
import urllib.error
import urllib.request

import pytest
from typer.testing import CliRunner

pytest.importorskip("uvicorn", reason="requirements/front.txt is not installed")

from sdvlm_core.cli.app import app
from tests.core.front.serving import FILES, TABLE, serving

runner = CliRunner()
_PAGE = [*(str(TABLE / word) if "." in word else word for word in FILES), "--model", "none"]


def test_it_prints_its_address_serves_and_ends_cleanly_on_ctrl_c():
    with serving(*FILES, "--model", "none") as served:
        assert served.url.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(served.url) as page:
            assert b"<title>sdvlm view</title>" in page.read()
        with urllib.request.urlopen(served.url + "api/state") as reply:
            state = json.load(reply)
        assert (state["kind"], state["model"]) == ("files", "")
        status, errors = served.stop(signal.SIGINT)
    assert status == 0
    assert "Traceback" not in errors


def test_sigterm_ends_it_with_the_status_of_all_commands_and_others_need_the_token():
    with serving("--bag", "../../demo/table", "--model", "none", "--host", "0.0.0.0") as served:
        address, _, token = served.url.partition("#token=")
        assert len(token) >= 32
        port = address.rstrip("/").rpartition(":")[2]
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/api/state")
        assert refused.value.code == 401
        status, errors = served.stop(signal.SIGTERM)
    assert status == 143
    assert "Traceback" not in errors


def test_a_port_that_is_taken_is_refused_with_the_reason():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = runner.invoke(app, ["view", *_PAGE, "--port", port])
    assert result.exit_code == 1
    assert f"cannot listen on 127.0.0.1 port {port}" in result.stderr


def test_a_short_or_missing_token_is_refused(tmp_path, monkeypatch):
    short = tmp_path / "token"
    short.write_text("short")
    for path in (short, tmp_path / "nothing"):
        result = runner.invoke(app, ["view", *_PAGE, "--token-file", str(path)])
        assert result.exit_code == 1
        assert "token" in result.stderr
    monkeypatch.setenv("SDVLM_VIEW_TOKEN", "short")
    assert "at least 16" in runner.invoke(app, ["view", *_PAGE]).stderr


def test_without_its_packages_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "starlette", None)
    result = runner.invoke(app, ["view", *_PAGE])
    assert result.exit_code == 1
    assert "sdvlm-python[front]" in result.stderr


def test_a_node_without_ros_says_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "sdvlm_ros.live_backend", None)
    result = runner.invoke(app, ["view", "--node", "/spatial_query"])
    assert result.exit_code == 1
    assert "needs ROS 2" in result.stderr


def test_no_source_or_two_are_wrong_usage():
    for given in ([], ["--bag", "a", "--node", "/n"]):
        assert runner.invoke(app, ["view", *given]).exit_code == 2


def test_a_frame_that_cannot_be_read_is_the_reason(tmp_path):
    result = runner.invoke(app, ["view", "--rgb", str(tmp_path / "no.png"), "--model", "none"])
    assert result.exit_code == 1
    assert "no.png" in result.stderr
