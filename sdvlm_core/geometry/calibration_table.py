"""Factors of the standard deviations, fitted to true values.

Written by

    python benchmarks/calibrate_uncertainty.py ../shared/realdata ../shared/realdata2 \\
        --simulated runs/sim606

Do not edit. Does not know what the rows mean (`uncertainty`).
"""

from __future__ import annotations

#: std_dev over the sum of the error sources, by kind of depth, key and situation.
SCALES: dict[tuple[str, str, str], float] = {
    ("real", "position_m", "clear"): 1.041,
    ("real", "position_m", "hidden"): 1.025,
    ("real", "position_m", "doubtful"): 1.475,
    ("real", "camera_distance_m", "clear"): 1.041,
    ("real", "camera_distance_m", "hidden"): 1.025,
    ("real", "camera_distance_m", "doubtful"): 1.475,
    ("real", "length_m", "clear"): 1.394,
    ("real", "length_m", "hidden"): 1.586,
    ("real", "length_m", "doubtful"): 2.092,
    ("real", "width_m", "clear"): 1.538,
    ("real", "width_m", "hidden"): 1.345,
    ("real", "width_m", "doubtful"): 1.363,
    ("real", "height_m", "clear"): 1.237,
    ("real", "height_m", "hidden"): 0.887,
    ("real", "height_m", "doubtful"): 1.082,
    ("real", "distance_m", "clear"): 1.313,
    ("real", "distance_m", "hidden"): 1.230,
    ("real", "distance_m", "doubtful"): 1.510,
    ("real", "gap_m", "clear"): 1.704,
    ("real", "gap_m", "hidden"): 1.996,
    ("real", "gap_m", "doubtful"): 2.168,
    ("simulated", "position_m", "clear"): 1.787,
    ("simulated", "position_m", "hidden"): 0.300,
    ("simulated", "position_m", "doubtful"): 0.773,
    ("simulated", "camera_distance_m", "clear"): 1.787,
    ("simulated", "camera_distance_m", "hidden"): 0.300,
    ("simulated", "camera_distance_m", "doubtful"): 0.773,
    ("simulated", "length_m", "clear"): 2.026,
    ("simulated", "length_m", "hidden"): 0.455,
    ("simulated", "length_m", "doubtful"): 0.847,
    ("simulated", "width_m", "clear"): 1.584,
    ("simulated", "width_m", "hidden"): 0.716,
    ("simulated", "width_m", "doubtful"): 1.120,
    ("simulated", "height_m", "clear"): 0.649,
    ("simulated", "height_m", "hidden"): 0.300,
    ("simulated", "height_m", "doubtful"): 0.300,
    ("simulated", "distance_m", "clear"): 0.919,
    ("simulated", "distance_m", "hidden"): 0.342,
    ("simulated", "distance_m", "doubtful"): 0.328,
    ("simulated", "gap_m", "clear"): 2.559,
    ("simulated", "gap_m", "hidden"): 2.913,
    ("simulated", "gap_m", "doubtful"): 1.505,
}
#: Half of the 90 % interval over std_dev, by kind of depth and key.
TAILS: dict[tuple[str, str], float] = {
    ("real", "position_m"): 2.959,
    ("real", "camera_distance_m"): 2.959,
    ("real", "length_m"): 1.810,
    ("real", "width_m"): 1.962,
    ("real", "height_m"): 2.040,
    ("real", "distance_m"): 2.114,
    ("real", "gap_m"): 1.967,
    ("simulated", "position_m"): 3.338,
    ("simulated", "camera_distance_m"): 3.338,
    ("simulated", "length_m"): 3.325,
    ("simulated", "width_m"): 3.333,
    ("simulated", "height_m"): 2.392,
    ("simulated", "distance_m"): 3.361,
    ("simulated", "gap_m"): 3.690,
}
