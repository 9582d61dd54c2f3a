"""Models that name ambiguous objects, write reasoning and judge it: read from a YAML file.

A role is a model behind an OpenAI-compatible server (`url`) or in a directory (`directory`). Knows
the keys of the file and how to open a model. Does not know prompts.

    relabel:
      url: http://127.0.0.1:8000/v1
      model: Qwen/Qwen2.5-VL-72B-Instruct
      per_minute: 120
    thought: {directory: /models/Qwen2.5-VL-7B-Instruct, device: cuda}
    judge:
      url: https://judge.example/v1
      model: deepseek-chat
      key_variable: JUDGE_KEY      # an environment variable; keys are never written to files
      prompt_price: 0.27           # per million tokens, for the cost in the manifest
      completion_price: 1.10
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from training.build.endpoint import Ask, Endpoint, EndpointError, Usage, local_model

ROLES = ("relabel", "thought", "judge")
_MAX_FILE_CHARACTERS = 1 << 16


@dataclass(frozen=True)
class Role:
    """The model of one role; the fields are the keys of the file (see `Endpoint`)."""

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
    """The roles of a YAML file.

    Raises:
        ValueError: the file is unreadable, or a key or value is not one of `Role`; names it.
    """
    try:
        text = file.read_text(encoding="utf-8")
        stored = yaml.safe_load(text) if len(text) <= _MAX_FILE_CHARACTERS else None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{file} cannot be read: {error}") from error
    if not isinstance(stored, dict) or not stored or set(stored) - set(ROLES):
        raise ValueError(f"{file}: expected some of the keys {', '.join(ROLES)}")
    if ("thought" in stored) != ("judge" in stored):
        raise ValueError(f"{file}: thought and judge need each other; give both or neither")
    return {name: _role(keys, f"{file}, {name}") for name, keys in stored.items()}


def _role(keys: object, where: str) -> Role:
    if not isinstance(keys, dict):
        raise ValueError(f"{where}: expected keys such as url and model")
    types = {name: type(value) for name, value in asdict(Role()).items()}
    values: dict[str, Any] = {}
    for key, value in keys.items():
        wanted = types.get(key)
        if wanted is None:
            raise ValueError(f"{where}: unknown key {key}; known: {', '.join(types)}")
        good = isinstance(value, (int, float) if wanted is float else wanted)
        if not good or isinstance(value, bool) or (wanted is not str and not value >= 0):
            raise ValueError(f"{where}: {key} is {value!r}, expected a valid {wanted.__name__}")
        values[key] = wanted(value)
    role = Role(**values)
    if bool(role.url) == bool(role.directory):
        raise ValueError(f"{where}: give url or directory, not both")
    if role.url and (not role.url.startswith(("http://", "https://")) or not role.model):
        raise ValueError(f"{where}: a url (http:// or https://) needs the name of its model too")
    return role


def share_rate(roles: dict[str, Role], workers: int) -> dict[str, Role]:
    """The roles for one of several processes: each gets an equal part of the request rate."""
    return {
        name: replace(role, per_minute=role.per_minute / workers) for name, role in roles.items()
    }


@cache
def model_of(role: Role, answers: Path) -> Ask:
    """The model of a role; one instance per process.

    Args:
        answers: directory of the answer cache (`Endpoint`).

    Raises:
        EndpointError: the client library, the key or the model is missing.
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
    """The cost of a role in this process so far."""
    model = model_of(role, answers)
    return model.usage if isinstance(model, Endpoint) else Usage()


def check_models(roles: dict[str, Role], answers: Path) -> None:
    """Send a short prompt to each role: a wrong address is found before hours of work.

    Raises:
        EndpointError: a role does not answer; names it.
    """
    picture = np.full((64, 64, 3), 128, np.uint8)
    for name, role in roles.items():
        try:
            pictures = () if name == "judge" else (picture,)
            model_of(role, answers)("Answer with the word ready.", pictures)
        except EndpointError as error:
            raise EndpointError(f"{name} ({role.url or role.directory}): {error}") from error
