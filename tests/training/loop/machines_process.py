"""Two processes with a folder each, as on two machines: FOLDER; both resume as process 0 does."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from training.loop.machines import shared_latest


def _process(rank: int, folder: Path) -> None:
    os.environ["LOCAL_RANK"] = "0"
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    found = shared_latest(folder / f"machine{rank}", torch.device("cpu"))
    # One write, because both processes have this output.
    line = f"{rank} {found.name if found is not None else None}\n"
    os.write(sys.stdout.fileno(), line.encode())
    dist.destroy_process_group()


def main() -> None:
    """Fork after the imports, which take longer than the work."""
    folder = Path(sys.argv[1])
    child = os.fork()
    _process(0 if child else 1, folder)
    if child:
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


if __name__ == "__main__":
    main()
