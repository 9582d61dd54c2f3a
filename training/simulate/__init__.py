"""Simulated household scenes: RGB-D frames with exact scene graphs."""

import os

# Read when mujoco is imported, by whichever module imports it first.
os.environ.setdefault("MUJOCO_GL", "egl")
# One rasterizer thread per process: the processes, one per core, are the parallelism.
os.environ.setdefault("LP_NUM_THREADS", "1")
