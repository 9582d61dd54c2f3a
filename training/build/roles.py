"""Who names ambiguous objects, who writes reasoning and who judges it: read from a yaml file.

A role is a model behind an OpenAI-compatible server (`url`) or in a directory (`directory`). Knows
the file's keys and how to reach a model; does not know prompts.

    relabel:
      url: http://127.0.0.1:8000/v1
      model: Qwen/Qwen2.5-VL-72B-Instruct
      per_minute: 120
    thought: {directory: /models/Qwen2.5-VL-7B-Instruct, device: cuda}
    judge:
      url: https://judge.example/v1
      model: deepseek-chat
      key_variable: JUDGE_KEY      # an environment variable; keys are never written to files
      prompt_price: 0.27           # of a million tokens, for the cost in the manifest
      completion_price: 1.10
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from training.build.endpoint import Ask, Endpoint, EndpointError, Usage, local_model

ROLES = ("relabel", "thought", "judge")
_MAX_FILE = 1 << 16


@dataclass(frozen=True)
class Role:
    """How to reach the model of one role; the keys are those of the file (see `Endpoint`)."""

    url: str = ""
    directory: str = ""
    model: str = ""
    device: str = "cpu"
    key_variable: str = ""
    per_minute: float = 0.0
    timeout: float = 120.0
    retries: int = 5
    max_tokens: int = 512
    prompt_price: float = 0.0
    completion_price: float = 0.0


def read_roles(file: Path) -> dict[str, Role]:
    """The roles of a yaml file, checked.

    Raises:
        ValueError: no such file, or keys and values that are not those of `Role`; names them.
    """
    try:
        text = file.read_text(encoding="utf-8")
        stored = yaml.safe_load(text) if len(text) <= _MAX_FILE else None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{file} cannot be read: {error}") from error
    if not isinstance(stored, dict) or not stored or set(stored) - set(ROLES):
        raise ValueError(f"{file}: expected some of the keys {', '.join(ROLES)}")
    if ("thought" in stored) != ("judge" in stored):
        raise ValueError(f"{file}: thought and judge come together")
    return {name: _role(keys, f"{file}, {name}") for name, keys in stored.items()}


def _role(keys: Any, where: str) -> Role:
    if not isinstance(keys, dict):
        raise ValueError(f"{where}: expected keys such as url and model")
    types = {field.name: type(field.default) for field in fields(Role)}
    values: dict[str, Any] = {}
    for key, value in keys.items():
        wanted = types.get(key)
        if wanted is None:
            raise ValueError(f"{where}: unknown key {key}; known: {', '.join(types)}")
        good = isinstance(value, (int, float) if wanted is float else wanted)
        if not good or isinstance(value, bool) or (wanted is not str and not value >= 0):
            raise ValueError(f"{where}: {key} is {value!r}, not a {wanted.__name__} of that kind")
        values[key] = wanted(value)
    role = Role(**values)
    if bool(role.url) == bool(role.directory):
        raise ValueError(f"{where}: give url or directory, one of them")
    if role.url and (not role.url.startswith(("http://", "https://")) or not role.model):
        raise ValueError(f"{where}: a url (http:// or https://) needs a model's name too")
    return role


def shared_by(roles: dict[str, Role], workers: int) -> dict[str, Role]:
    """The roles as each of several processes may use them: a part of the rate each."""
    return {
        name: replace(role, per_minute=role.per_minute / workers) for name, role in roles.items()
    }


@cache
def ask_of(role: Role, answers: Path) -> Ask:
    """The model of a role; one of each in a process.

    Args:
        answers: the directory of the cache (`Endpoint`).

    Raises:
        EndpointError: it cannot be had.
    """
    if role.directory:
        return local_model(Path(role.directory), role.device, role.max_tokens)
    return Endpoint(
        role.url,
        role.model,
        answers,
        key_variable=role.key_variable,
        per_minute=role.per_minute,
        timeout=role.timeout,
        retries=role.retries,
        max_tokens=role.max_tokens,
        prompt_price=role.prompt_price,
        completion_price=role.completion_price,
    )


def usage_of(role: Role, answers: Path) -> Usage:
    """What a role has cost in this process."""
    ask = ask_of(role, answers)
    return ask.usage if isinstance(ask, Endpoint) else Usage()


def try_all(roles: dict[str, Role], answers: Path) -> None:
    """Ask every role something small, so that a wrong address is found before hours of work.

    Raises:
        EndpointError: names the role.
    """
    picture = np.full((64, 64, 3), 128, np.uint8)
    for name, role in roles.items():
        try:
            pictures = () if name == "judge" else (picture,)
            ask_of(role, answers)("Answer with the word ready.", pictures)
        except EndpointError as error:
            raise EndpointError(f"{name} ({role.url or role.directory}): {error}") from error
