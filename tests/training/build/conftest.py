"""A chat server for the tests of model endpoints."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.training.chat_server import Chat, chatting


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[Chat]:
    with chatting(lambda prompt: f"heard {prompt}") as state:
        yield state
