"""Compares recordings of the official release's forward pass with ours in parity mode."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.paths import ROOT, SHARED

RECORDED = SHARED / "parity"
COMPARE = ROOT / "tests" / "parity" / "compare.py"


def _compare(case: str, *more: str) -> tuple[int, dict]:
    command = [sys.executable, str(COMPARE), "--checkpoint", str(RECORDED / "official_checkpoint")]
    command += ["--vision-tower", str(RECORDED / "clip_tiny"), str(RECORDED / case), *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.mark.skipif(not RECORDED.exists(), reason="../shared/parity with the recordings is absent")
@pytest.mark.parametrize("case", ["case_landscape.npz", "case_portrait.npz"])
def test_embeddings_logits_and_greedy_tokens_equal_the_official_values(case):
    status, errors = _compare(case)
    assert status == 0, errors
    assert errors["tokens_match"]
    for path, keys in {
        "est": ("dpe", "grid", "inputs_embeds", "logits_last"),
        "gt": ("dpe", "grid", "inputs_embeds", "logits_last"),
        "none": ("inputs_embeds", "logits_last"),
    }.items():
        assert all(errors[path][key] <= 1e-4 for key in keys), errors[path]


@pytest.mark.skipif(not RECORDED.exists(), reason="../shared/parity with the recordings is absent")
def test_an_error_beyond_the_tolerance_is_a_failure():
    status, errors = _compare("case_portrait.npz", "--tolerance", "1e-9")
    assert status == 1
    assert not errors["ok"]
