"""A build with models that name objects and reason, over real HTTP; and the file of roles."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from tests import blocks
from tests.paths import ROOT
from tests.training import scans
from tests.training.chat_server import Chat, chatting
from training.build.roles import Role, read_roles, share_rate
from training.data.conversations import load

TWINS = (
    blocks.TABLE,
    blocks.LAMP,
    blocks.Block("chair", (200, 30, 30), (-1.0, 3.2, 0.0), (0.5, 0.45, 0.9), 0.3),
    blocks.Block("chair", (200, 30, 30), (1.1, 3.2, 0.0), (0.48, 0.44, 0.7), 0.7),
)


def _build(root: Path, out: Path, models: Path) -> subprocess.CompletedProcess:
    command = ["training.build", "--scannet", root, "--out", out, "--models", models]
    return subprocess.run(
        [sys.executable, "-m", *map(str, command), "--test-share", "0", "--workers", "1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def _plain(text: str) -> str:
    return " ".join(re.sub("[│╭╮╰╯─]", " ", text).split())


def _models(file: Path, **roles: Chat) -> Path:
    common = {"model": "m", "timeout": 3.0, "retries": 3, "prompt_price": 1.0}
    stored = {name: common | {"url": state.address} for name, state in roles.items()}
    file.write_text(yaml.safe_dump(stored))
    return file


def _names() -> Callable[[str], str]:
    names = cycle(("wooden chair", "metal chair"))
    return lambda prompt: json.dumps({"name": next(names)}) if "JSON" in prompt else "ready"


def _thoughts() -> Callable[[str], str]:
    """A model that gives a true and a false number in turn."""
    lies = cycle((False, True))

    def write(prompt: str) -> str:
        right = re.search(r"The right answer is: (.*)", prompt)
        if not right:
            return "ready"
        first = "It is 9.9 m away. " if next(lies) else "It stands further back. "
        return f"{first}So the answer is {right[1]}."

    return write


def test_a_build_with_models_names_twins_and_rejects_false_thoughts_with_a_reason(tmp_path):
    root = tmp_path / "scans"
    scans.write_scannet(root, world=TWINS)
    with (
        chatting(_names()) as namer,
        chatting(_thoughts()) as writer,
        chatting(lambda _: '{"accept": true, "reason": "sound"}') as judge,
    ):
        namer.misbehave = [
            "",
            "429",
            "stall",
            "500",
        ]  # first: the check
        judge.misbehave = ["", "429"]
        models = _models(tmp_path / "models.yaml", relabel=namer, thought=writer, judge=judge)
        done = _build(root, tmp_path / "out", models)
        assert done.returncode == 0, done.stderr
        asked = len(namer.bodies) + len(writer.bodies) + len(judge.bodies)
        # With cached answers: no request is sent, and the bytes are the same.
        shutil.copytree(tmp_path / "out" / "answers", tmp_path / "again" / "answers")
        assert _build(root, tmp_path / "again", models).returncode == 0
        assert len(namer.bodies) + len(writer.bodies) + len(judge.bodies) == asked
    manifests = [json.loads((tmp_path / f / "manifest.json").read_text()) for f in ("out", "again")]
    assert manifests[0]["sha256"] == manifests[1]["sha256"]
    manifest = manifests[0]
    assert manifest["relabelled"] == 4
    assert manifest["thoughts"] == 1
    assert manifest["refused"] == {"thought: number not in the scene graph": 1}
    assert manifest["usage"]["relabel"]["retries"] == 3
    assert manifest["usage"]["thought"]["cost"] == pytest.approx(0.002)
    assert manifests[1]["usage"]["thought"]["requests"] == 0
    samples = list(load(tmp_path / "out"))
    assert all(
        {"wooden chair", "metal chair"} <= {entry["name"] for entry in sample.scene_graph}
        for sample in samples
    )
    ((question, text),) = [thought for sample in samples for thought in sample.thoughts]
    assert question in [turn[0] for sample in samples for turn in sample.turns]
    assert text.startswith("It stands further back. So the answer is ")
    (shard,) = (tmp_path / "out").glob("*.parquet")
    thoughts = [t for row in pq.read_table(shard).to_pylist() for t in row["thoughts"]]
    (lie,) = [thought for thought in thoughts if not thought["accepted"]]
    assert lie["reason"] == "number not in the scene graph: 9.9 m"
    check = [sys.executable, "-m", "training.build.check", str(tmp_path / "out")]
    checked = subprocess.run(check, cwd=ROOT, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def test_an_unreachable_server_is_found_before_the_build(tmp_path):
    scans.write_scannet(tmp_path / "scans")
    models = tmp_path / "models.yaml"
    role = {"url": "http://127.0.0.1:9/v1", "model": "m", "retries": 0}
    models.write_text(yaml.safe_dump({"relabel": role}))
    done = _build(tmp_path / "scans", tmp_path / "out", models)
    assert done.returncode == 2
    assert "relabel (http://127.0.0.1:9/v1): Connection error" in _plain(done.stderr)
    assert not list((tmp_path / "out").glob("*.parquet"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected some of the keys relabel, thought, judge"),
        ("[relabel]", "expected some of the keys"),
        ("relable: {}", "expected some of the keys"),
        ("relabel: x", "relabel: expected keys such as url"),
        ("relabel: {url: 'http://h/v1', model: m, rate: 3}", "unknown key rate; known: url,"),
        (
            "relabel: {url: 'http://h/v1', model: m, retries: two}",
            "retries is 'two', expected a valid int",
        ),
        ("relabel: {url: 'http://h/v1', model: m, timeout: -1}", "timeout is -1"),
        ("relabel: {url: 'http://h/v1', model: m, retries: true}", "retries is True"),
        ("relabel: {url: 'http://h/v1'}", "needs the name of its model"),
        ("relabel: {url: 'ftp://h/v1', model: m}", "needs the name of its model"),
        ("relabel: {url: 'http://h/v1', model: m, directory: /m}", "give url or directory"),
        ("thought: {directory: /m}", "thought and judge need each other"),
        ("relabel: {a: 1", "cannot be read"),
        ("relabel: !!python/object/apply:os.getcwd []", "cannot be read"),
    ],
)
def test_an_invalid_file_is_refused_by_name(tmp_path, text, message):
    (tmp_path / "models.yaml").write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)) as raised:
        read_roles(tmp_path / "models.yaml")
    assert "models.yaml" in str(raised.value)


def test_workers_share_the_request_rate_of_an_endpoint(tmp_path):
    roles = {"relabel": Role(url="http://h/v1", model="m", per_minute=60)}
    assert share_rate(roles, 3)["relabel"].per_minute == 20
