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
    ("real", "position_m", "hidden"): 1.001,
    ("real", "position_m", "doubtful"): 1.531,
    ("real", "camera_distance_m", "clear"): 1.041,
    ("real", "camera_distance_m", "hidden"): 1.001,
    ("real", "camera_distance_m", "doubtful"): 1.531,
    ("real", "length_m", "clear"): 1.322,
    ("real", "length_m", "hidden"): 1.415,
    ("real", "length_m", "doubtful"): 1.903,
    ("real", "width_m", "clear"): 1.499,
    ("real", "width_m", "hidden"): 1.304,
    ("real", "width_m", "doubtful"): 1.338,
    ("real", "height_m", "clear"): 1.311,
    ("real", "height_m", "hidden"): 0.685,
    ("real", "height_m", "doubtful"): 1.171,
    ("real", "distance_m", "clear"): 1.105,
    ("real", "distance_m", "hidden"): 1.163,
    ("real", "distance_m", "doubtful"): 1.629,
    ("real", "gap_m", "clear"): 1.835,
    ("real", "gap_m", "hidden"): 2.045,
    ("real", "gap_m", "doubtful"): 2.250,
    ("simulated", "position_m", "clear"): 1.302,
    ("simulated", "position_m", "hidden"): 0.300,
    ("simulated", "position_m", "doubtful"): 0.783,
    ("simulated", "camera_distance_m", "clear"): 1.302,
    ("simulated", "camera_distance_m", "hidden"): 0.300,
    ("simulated", "camera_distance_m", "doubtful"): 0.783,
    ("simulated", "length_m", "clear"): 1.815,
    ("simulated", "length_m", "hidden"): 0.420,
    ("simulated", "length_m", "doubtful"): 0.978,
    ("simulated", "width_m", "clear"): 1.088,
    ("simulated", "width_m", "hidden"): 0.730,
    ("simulated", "width_m", "doubtful"): 1.150,
    ("simulated", "height_m", "clear"): 0.488,
    ("simulated", "height_m", "hidden"): 0.300,
    ("simulated", "height_m", "doubtful"): 0.300,
    ("simulated", "distance_m", "clear"): 0.711,
    ("simulated", "distance_m", "hidden"): 0.308,
    ("simulated", "distance_m", "doubtful"): 0.345,
    ("simulated", "gap_m", "clear"): 1.860,
    ("simulated", "gap_m", "hidden"): 2.157,
    ("simulated", "gap_m", "doubtful"): 1.179,
}
#: Half of the 90 % interval over std_dev, by kind of depth and key.
TAILS: dict[tuple[str, str], float] = {
    ("real", "position_m"): 2.959,
    ("real", "camera_distance_m"): 2.959,
    ("real", "length_m"): 1.827,
    ("real", "width_m"): 1.807,
    ("real", "height_m"): 1.925,
    ("real", "distance_m"): 2.407,
    ("real", "gap_m"): 1.990,
    ("simulated", "position_m"): 3.140,
    ("simulated", "camera_distance_m"): 3.140,
    ("simulated", "length_m"): 3.060,
    ("simulated", "width_m"): 3.027,
    ("simulated", "height_m"): 2.132,
    ("simulated", "distance_m"): 3.227,
    ("simulated", "gap_m"): 4.095,
}
