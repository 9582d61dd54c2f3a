"""One checkpoint on every machine of a run, with or without a shared folder.

Process 0 writes checkpoints. To resume on machines that have a folder each, its latest checkpoint
is sent to those that lack it. Knows processes and files; does not know what a checkpoint contains.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from sdvlm_core.files import atomic_directory, sha256
from training.loop.checkpoints import latest

_CHUNK_BYTES = 1 << 26


def shared_latest(out: Path, device: torch.device) -> Path | None:
    """The latest checkpoint of process 0, in this machine's folder of the run; None = none.

    Every process calls it. A checkpoint of this name with another content is replaced.

    Args:
        out: the folder of the run, on this machine.
        device: where the process group exchanges tensors.
    """
    found = latest(out)
    if not dist.is_initialized():
        return found
    own = (found.name, _content(found)) if found is not None and dist.get_rank() == 0 else None
    stated: list[Any] = [own]
    dist.broadcast_object_list(stated, src=0)
    if stated[0] is None:
        return None
    name, content = stated[0]
    folder = out / name
    # One process a machine looks, and writes.
    first = int(os.environ.get("LOCAL_RANK", "0")) == 0
    lacks = first and (not folder.is_dir() or _content(folder) != content)
    answers: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(answers, lacks)
    if any(answers):
        _send(folder, content, device, write=lacks)
    dist.barrier()
    return folder


def _content(folder: Path) -> list[tuple[str, int, str]]:
    """Name, bytes and SHA-256 of every file."""
    files = sorted(folder.iterdir())
    return [(file.name, file.stat().st_size, sha256(file)) for file in files]


def _send(
    folder: Path, content: list[tuple[str, int, str]], device: torch.device, write: bool
) -> None:
    """Send the files of process 0 to all; those that lack them write them, whole or not at all."""
    if write:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with atomic_directory(folder) as temporary:
            _exchange(folder, content, device, temporary)
    else:
        _exchange(folder, content, device, None)


def _exchange(
    source: Path,
    content: list[tuple[str, int, str]],
    device: torch.device,
    target: Path | None,
) -> None:
    for name, size, _ in content:
        for start in range(0, size, _CHUNK_BYTES):
            count = min(_CHUNK_BYTES, size - start)
            chunk = torch.empty(count, dtype=torch.uint8, device=device)
            if dist.get_rank() == 0:
                with (source / name).open("rb") as stored:
                    stored.seek(start)
                    part = bytearray(stored.read(count))
                chunk.copy_(torch.frombuffer(part, dtype=torch.uint8))
            dist.broadcast(chunk, src=0)
            if target is not None:
                with (target / name).open("ab") as written:
                    written.write(chunk.cpu().numpy().tobytes())
