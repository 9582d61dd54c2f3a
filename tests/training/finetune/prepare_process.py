"""Processes that prepare one data set at once: DATA OUT MODEL PROCESSES IMAGES_PER_PIECE."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from sdvlm_core.model.checkpoint import load
from sdvlm_core.model.depth_encoding import EncodingSettings
from training.finetune import prepare as preparation


def main() -> None:
    """Fork after everything is loaded, so that the processes start at the same time."""
    data, out, model, processes, images = sys.argv[1:]
    preparation._PIECE_IMAGES = int(images)
    checkpoint = load(model)
    how = preparation.Preparation(model, EncodingSettings("xyz"), "", "packed", 1500, "train")
    children = []
    for _ in range(int(processes)):
        child = os.fork()
        if not child:
            status = 1
            try:
                preparation.prepare(data, Path(out), how, checkpoint, processes=1)
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    ended = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    sys.exit(max(ended))


if __name__ == "__main__":
    main()
