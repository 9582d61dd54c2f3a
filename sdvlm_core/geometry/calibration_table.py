"""Factors of the standard deviations, fitted to true values.

Written by

    python benchmarks/calibrate_uncertainty.py ../shared/realdata ../shared/realdata2 \\
        --simulated runs/sim606

Do not edit. Does not know what the rows mean (`uncertainty`).
"""

from __future__ import annotations

#: std_dev over the sum of the error sources, by kind of depth, key and situation.
SCALES: dict[tuple[str, str, str], float] = {
    ("real", "position_m", "clear"): 0.921,
    ("real", "position_m", "hidden"): 0.958,
    ("real", "position_m", "doubtful"): 1.245,
    ("real", "camera_distance_m", "clear"): 0.921,
    ("real", "camera_distance_m", "hidden"): 0.958,
    ("real", "camera_distance_m", "doubtful"): 1.245,
    ("real", "length_m", "clear"): 1.207,
    ("real", "length_m", "hidden"): 1.172,
    ("real", "length_m", "doubtful"): 0.967,
    ("real", "width_m", "clear"): 1.447,
    ("real", "width_m", "hidden"): 1.238,
    ("real", "width_m", "doubtful"): 1.329,
    ("real", "height_m", "clear"): 1.205,
    ("real", "height_m", "hidden"): 0.891,
    ("real", "height_m", "doubtful"): 1.110,
    ("real", "distance_m", "clear"): 1.061,
    ("real", "distance_m", "hidden"): 1.175,
    ("real", "distance_m", "doubtful"): 1.310,
    ("real", "gap_m", "clear"): 1.360,
    ("real", "gap_m", "hidden"): 1.724,
    ("real", "gap_m", "doubtful"): 1.825,
    ("simulated", "position_m", "clear"): 0.809,
    ("simulated", "position_m", "hidden"): 0.300,
    ("simulated", "position_m", "doubtful"): 0.624,
    ("simulated", "camera_distance_m", "clear"): 0.809,
    ("simulated", "camera_distance_m", "hidden"): 0.300,
    ("simulated", "camera_distance_m", "doubtful"): 0.624,
    ("simulated", "length_m", "clear"): 1.589,
    ("simulated", "length_m", "hidden"): 0.643,
    ("simulated", "length_m", "doubtful"): 1.071,
    ("simulated", "width_m", "clear"): 0.937,
    ("simulated", "width_m", "hidden"): 0.596,
    ("simulated", "width_m", "doubtful"): 1.525,
    ("simulated", "height_m", "clear"): 0.512,
    ("simulated", "height_m", "hidden"): 0.300,
    ("simulated", "height_m", "doubtful"): 0.300,
    ("simulated", "distance_m", "clear"): 0.531,
    ("simulated", "distance_m", "hidden"): 0.300,
    ("simulated", "distance_m", "doubtful"): 0.300,
    ("simulated", "gap_m", "clear"): 1.655,
    ("simulated", "gap_m", "hidden"): 2.047,
    ("simulated", "gap_m", "doubtful"): 0.945,
}
#: Half of the 90 % interval over std_dev, by kind of depth and key.
TAILS: dict[tuple[str, str], float] = {
    ("real", "position_m"): 2.920,
    ("real", "camera_distance_m"): 2.920,
    ("real", "length_m"): 1.863,
    ("real", "width_m"): 2.114,
    ("real", "height_m"): 1.949,
    ("real", "distance_m"): 2.207,
    ("real", "gap_m"): 2.559,
    ("simulated", "position_m"): 2.972,
    ("simulated", "camera_distance_m"): 2.972,
    ("simulated", "length_m"): 3.255,
    ("simulated", "width_m"): 2.703,
    ("simulated", "height_m"): 1.831,
    ("simulated", "distance_m"): 3.187,
    ("simulated", "gap_m"): 3.950,
}
