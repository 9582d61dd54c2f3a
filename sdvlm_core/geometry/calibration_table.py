"""Factors of the standard deviations, fitted to true values.

Written by

    python benchmarks/calibrate_uncertainty.py ../shared/realdata ../shared/realdata2 \\
        --simulated runs/sim606

Do not edit. Does not know what the rows mean (`uncertainty`).
"""

from __future__ import annotations

#: std_dev over the sum of the error sources, by kind of depth, key and situation.
SCALES: dict[tuple[str, str, str], float] = {
    ("real", "position_m", "clear"): 1.032,
    ("real", "position_m", "hidden"): 0.958,
    ("real", "position_m", "doubtful"): 1.293,
    ("real", "camera_distance_m", "clear"): 1.032,
    ("real", "camera_distance_m", "hidden"): 0.958,
    ("real", "camera_distance_m", "doubtful"): 1.293,
    ("real", "length_m", "clear"): 1.148,
    ("real", "length_m", "hidden"): 1.048,
    ("real", "length_m", "doubtful"): 0.882,
    ("real", "width_m", "clear"): 1.481,
    ("real", "width_m", "hidden"): 1.299,
    ("real", "width_m", "doubtful"): 1.363,
    ("real", "height_m", "clear"): 1.205,
    ("real", "height_m", "hidden"): 0.932,
    ("real", "height_m", "doubtful"): 1.122,
    ("real", "distance_m", "clear"): 1.012,
    ("real", "distance_m", "hidden"): 1.164,
    ("real", "distance_m", "doubtful"): 1.221,
    ("real", "gap_m", "clear"): 1.803,
    ("real", "gap_m", "hidden"): 1.795,
    ("real", "gap_m", "doubtful"): 2.001,
    ("simulated", "position_m", "clear"): 0.838,
    ("simulated", "position_m", "hidden"): 0.300,
    ("simulated", "position_m", "doubtful"): 0.657,
    ("simulated", "camera_distance_m", "clear"): 0.838,
    ("simulated", "camera_distance_m", "hidden"): 0.300,
    ("simulated", "camera_distance_m", "doubtful"): 0.657,
    ("simulated", "length_m", "clear"): 1.653,
    ("simulated", "length_m", "hidden"): 0.730,
    ("simulated", "length_m", "doubtful"): 0.986,
    ("simulated", "width_m", "clear"): 0.995,
    ("simulated", "width_m", "hidden"): 0.675,
    ("simulated", "width_m", "doubtful"): 1.436,
    ("simulated", "height_m", "clear"): 0.492,
    ("simulated", "height_m", "hidden"): 0.300,
    ("simulated", "height_m", "doubtful"): 0.300,
    ("simulated", "distance_m", "clear"): 0.593,
    ("simulated", "distance_m", "hidden"): 0.300,
    ("simulated", "distance_m", "doubtful"): 0.300,
    ("simulated", "gap_m", "clear"): 1.637,
    ("simulated", "gap_m", "hidden"): 1.863,
    ("simulated", "gap_m", "doubtful"): 0.973,
}
#: Half of the 90 % interval over std_dev, by kind of depth and key.
TAILS: dict[tuple[str, str], float] = {
    ("real", "position_m"): 2.957,
    ("real", "camera_distance_m"): 2.957,
    ("real", "length_m"): 2.061,
    ("real", "width_m"): 2.103,
    ("real", "height_m"): 1.918,
    ("real", "distance_m"): 2.239,
    ("real", "gap_m"): 2.127,
    ("simulated", "position_m"): 3.099,
    ("simulated", "camera_distance_m"): 3.099,
    ("simulated", "length_m"): 2.873,
    ("simulated", "width_m"): 2.536,
    ("simulated", "height_m"): 1.860,
    ("simulated", "distance_m"): 3.483,
    ("simulated", "gap_m"): 3.608,
}
