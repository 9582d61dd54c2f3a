"""One of several processes that fine-tune with every sharding: CONFIG; writes OUT/<sharding>."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from accelerate import Accelerator

from training.finetune.config import SHARDING, read_config
from training.finetune.trainer import train

if __name__ == "__main__":
    config = read_config(Path(sys.argv[1]))
    # The process group is used by the next run, too.
    Accelerator.end_training = lambda self: None  # type: ignore[method-assign]
    for sharding in SHARDING:
        train(replace(config, sharding=sharding, out=f"{config.out}/{sharding}"))
