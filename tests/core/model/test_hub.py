"""Downloads from a local HTTP server that implements the hub's protocol."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdvlm_core.errors import CheckpointError, DownloadError
from sdvlm_core.model import hub
from tests.hub_server import COMMIT, NAME, NEXT, Hub, serving
from tests.tiny_checkpoint import write_tiny_checkpoint


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Hub]:
    written = write_tiny_checkpoint(tmp_path / "served")
    files = {path.name: path.read_bytes() for path in written.iterdir()}
    # What must not be downloaded: code, pickles, prose.
    files |= {"modeling.py": b"print('code')", "pytorch_model.bin": b"pickle", "README.md": b""}
    with serving(files) as state:
        yield state


def _environment(home: Path, server: Hub | None, **more: str) -> dict[str, str]:
    return {
        **{key: value for key, value in os.environ.items() if not key.startswith(("HF_", "SDVLM"))},
        "HF_HOME": str(home),
        "HF_ENDPOINT": server.address if server else "http://127.0.0.1:9",
        "no_proxy": "127.0.0.1",
        **more,
    }


def _sdvlm(home: Path, server: Hub | None, *words: str, **more: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "sdvlm_core.cli", *words],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env=_environment(home, server, **more),
    )


def test_a_download_is_checked_pinned_and_then_loads_offline(tmp_path, server):
    done = _sdvlm(tmp_path / "home", server, "download", NAME, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["commit"] == COMMIT
    assert sorted(report["files"]) == sorted(
        name
        for name in server.files
        if name not in ("modeling.py", "pytorch_model.bin", "README.md")
    )
    assert "apache-2.0" in done.stderr
    assert f"{NAME}@{COMMIT}" in done.stderr
    script = (
        "from sdvlm_core.model.checkpoint import load; import sys;"
        "print(load(sys.argv[1], 'cpu').model.num_parameters())"
    )
    for name in (NAME, f"{NAME}@{COMMIT}"):
        loaded = subprocess.run(
            [sys.executable, "-c", script, name],
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
            env=os.environ
            | {"HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": "http://127.0.0.1:9"},
        )
        assert loaded.returncode == 0, loaded.stderr
        assert int(loaded.stdout) > 0


def test_the_licence_is_printed_before_the_first_byte_of_a_model(tmp_path, server):
    server.licence = "cc-by-nc-4.0"
    server.corrupt = "model.safetensors"
    done = _sdvlm(tmp_path, server, "download", NAME)
    assert done.returncode == 1
    assert done.stderr.index("licence: cc-by-nc-4.0 (from its card)") < done.stderr.index("damaged")


def test_a_broken_connection_resumes_where_it_stopped(tmp_path, server):
    server.files["model.safetensors"] += bytes(16 << 20)
    server.break_after = 12 << 20
    done = _sdvlm(tmp_path, server, "download", NAME)
    assert done.returncode == 0, done.stderr
    assert server.ranges
    assert (
        int(server.ranges[0].removeprefix("bytes=").rstrip("-")) == 10 << 20
    )  # the size that was already written


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_download_at_once_and_leaves_no_partial_file(tmp_path, server, number):
    server.stalled = threading.Event()
    running = subprocess.Popen(
        [sys.executable, "-m", "sdvlm_core.cli", "download", NAME],
        stderr=subprocess.DEVNULL,
        env=_environment(tmp_path, server),
        # If a shell runs the tests in the background, they and their child processes ignore SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert server.stalled.wait(120)
    running.send_signal(number)
    assert running.wait(120) == 128 + number
    assert not list(tmp_path.rglob("*.incomplete"))
    assert not list(tmp_path.rglob("refs/main"))


def test_a_second_run_downloads_nothing_that_is_complete(tmp_path, server):
    assert _sdvlm(tmp_path, server, "download", NAME).returncode == 0
    server.served.clear()
    again = _sdvlm(tmp_path, server, "download", NAME)
    assert again.returncode == 0
    assert server.served == []
    assert Path(again.stdout.strip()).is_dir()


def test_a_damaged_file_is_removed_and_its_model_is_not_found_until_it_is_correct(tmp_path, server):
    server.corrupt = "model.safetensors"
    done = _sdvlm(tmp_path, server, "download", NAME, "--json")
    assert done.returncode == 1
    assert "model.safetensors is damaged" in json.loads(done.stdout)["error"]["message"]
    refused = _sdvlm(tmp_path, None, "ask", "How tall?", "--rgb", "none.png", "--model", NAME)
    assert refused.returncode == 1
    assert not list(tmp_path.rglob("refs/main"))
    server.corrupt = ""
    server.served.clear()
    assert _sdvlm(tmp_path, server, "download", NAME).returncode == 0
    assert server.served == ["model.safetensors"]


def test_a_pinned_commit_is_not_found_until_all_its_files_are_verified(
    tmp_path, server, monkeypatch
):
    pinned = f"{NAME}@{COMMIT}"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    server.corrupt = "model.safetensors"
    assert _sdvlm(tmp_path, server, "download", pinned).returncode == 1
    assert list(tmp_path.rglob("snapshots/*/config.json"))
    assert hub.cached(pinned) is None
    with pytest.raises(CheckpointError, match=f"sdvlm download {pinned}"):
        hub.find(pinned)
    server.corrupt = ""
    done = _sdvlm(tmp_path, server, "download", pinned)
    assert hub.cached(pinned) == hub.find(pinned) == Path(done.stdout.strip())


def test_a_damaged_small_file_is_detected_too(tmp_path, server):
    server.corrupt = "config.json"
    done = _sdvlm(tmp_path, server, "download", NAME)
    assert done.returncode == 1
    assert "config.json is damaged" in done.stderr


def test_a_branch_follows_new_commits_and_a_pinned_commit_does_not(tmp_path, server):
    assert _sdvlm(tmp_path, server, "download", NAME).returncode == 0
    server.commit = NEXT
    moved = _sdvlm(tmp_path, server, "download", NAME, "--json")
    stays = _sdvlm(tmp_path, server, "download", f"{NAME}@{COMMIT}", "--json")
    assert json.loads(moved.stdout)["directory"].endswith(NEXT)
    assert json.loads(stays.stdout)["directory"].endswith(COMMIT)


@pytest.mark.parametrize(
    ("name", "advice", "more"),
    [
        ("someone/absent", "the model does not exist", {}),
        (f"{NAME}@no-such-branch", "this revision does not", {}),
        (NAME, "HF_HUB_OFFLINE is set", {"HF_HUB_OFFLINE": "1"}),
        ("sd-vlm-8b", "one of: sd-vlm-7b", {}),
        ("../escape", "is unknown", {}),
    ],
)
def test_a_refused_download_states_the_reason(tmp_path, server, name, advice, more):
    done = _sdvlm(tmp_path, server, "download", name, **more)
    assert done.returncode == 1
    assert advice in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_connection_is_an_error_not_a_crash(tmp_path):
    done = _sdvlm(tmp_path, None, "download", NAME)
    assert done.returncode == 1
    assert "cannot be downloaded" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_repository_without_weights_is_refused_before_anything_is_downloaded(tmp_path, server):
    server.files = {"config.json": b"{}"}
    done = _sdvlm(tmp_path, server, "download", NAME)
    assert "has no weights" in done.stderr
    assert server.served == []


def test_a_missing_download_is_refused_with_the_command_to_run():
    with pytest.raises(CheckpointError, match=r"sdvlm download nobody/not-here"):
        hub.find("nobody/not-here")


def test_a_download_needs_enough_free_disk_space(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    huge = hub.File("model.safetensors", 10**18, "0" * 64)
    with pytest.raises(DownloadError, match=r"1000000000\.0 GB more"):
        hub.download(hub.Snapshot(NAME, "main", COMMIT, "", (huge,)))


def test_every_known_name_has_a_licence_and_a_use():
    for name, release in hub.RELEASES.items():
        assert hub.is_name(name)
        assert hub.is_name(release.repository)
        assert release.licence
        assert release.use
    for size in ("base", "large"):
        assert "NOT for commercial use" in hub.RELEASES[f"depth-anything-v2-{size}"].licence
    assert hub.RELEASES["depth-anything-v2-small"].licence == "Apache-2.0"
