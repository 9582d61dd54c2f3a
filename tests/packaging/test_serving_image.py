"""The image that serves a model runs the command and the vLLM that are tested."""

from __future__ import annotations

import json
import re

import yaml
from typer.testing import CliRunner

from sdvlm_core.cli.app import app
from sdvlm_core.cli.serve import TESTED_VLLM
from tests.paths import ROOT

IMAGE = (ROOT / "docker" / "Dockerfile.serving").read_text()
COMPOSE = yaml.safe_load((ROOT / "docker" / "compose.serving.yaml").read_text())


def test_the_image_has_the_vllm_of_the_tests() -> None:
    assert re.findall(r"vllm==([\d.]+)", IMAGE) == [TESTED_VLLM]


def test_every_option_of_the_image_is_one_of_the_command() -> None:
    entry = json.loads(re.findall(r"^ENTRYPOINT (.*)$", IMAGE, re.M)[0])
    command, known = (
        COMPOSE["services"]["server"]["command"],
        CliRunner().invoke(app, ["serve", "--help"]),
    )
    options = [word for word in (*entry, *command) if word.startswith("--")]
    assert len(options) == 4
    assert not [option for option in options if option not in known.output]


def test_strangers_do_not_reach_the_server_and_its_key_is_no_argument() -> None:
    server = COMPOSE["services"]["server"]
    assert server["ports"] == ["${ADDRESS:-127.0.0.1}:8000:8000"]
    assert server["environment"] == {"SDVLM_SERVER_KEY_FILE": "/run/secrets/server_key"}
    assert "server.key" in (ROOT / ".dockerignore").read_text().splitlines()
    assert "/server.key" in (ROOT / ".gitignore").read_text().splitlines()
