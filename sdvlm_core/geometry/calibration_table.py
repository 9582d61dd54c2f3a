"""Factors of the standard deviations, fitted to true values.

Written by

    python benchmarks/calibrate_uncertainty.py ../shared/realdata ../shared/realdata2

Do not edit. Does not know what the rows mean (`uncertainty`).
"""

from __future__ import annotations

#: std_dev over the sum of the error sources, by kind of depth, key and situation.
SCALES: dict[tuple[str, str, str], float] = {
    ("real", "position_m", "clear"): 1.055,
    ("real", "position_m", "hidden"): 1.083,
    ("real", "position_m", "doubtful"): 1.686,
    ("real", "camera_distance_m", "clear"): 1.055,
    ("real", "camera_distance_m", "hidden"): 1.083,
    ("real", "camera_distance_m", "doubtful"): 1.686,
    ("real", "length_m", "clear"): 1.326,
    ("real", "length_m", "hidden"): 1.427,
    ("real", "length_m", "doubtful"): 1.910,
    ("real", "width_m", "clear"): 1.542,
    ("real", "width_m", "hidden"): 1.367,
    ("real", "width_m", "doubtful"): 1.399,
    ("real", "height_m", "clear"): 1.326,
    ("real", "height_m", "hidden"): 1.060,
    ("real", "height_m", "doubtful"): 2.418,
    ("real", "distance_m", "clear"): 1.012,
    ("real", "distance_m", "hidden"): 1.277,
    ("real", "distance_m", "doubtful"): 1.719,
    ("real", "gap_m", "clear"): 1.807,
    ("real", "gap_m", "hidden"): 1.962,
    ("real", "gap_m", "doubtful"): 2.127,
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
    ("real", "position_m"): 2.891,
    ("real", "camera_distance_m"): 2.891,
    ("real", "length_m"): 2.433,
    ("real", "width_m"): 2.329,
    ("real", "height_m"): 4.879,
    ("real", "distance_m"): 2.773,
    ("real", "gap_m"): 2.328,
    ("simulated", "position_m"): 3.140,
    ("simulated", "camera_distance_m"): 3.140,
    ("simulated", "length_m"): 3.060,
    ("simulated", "width_m"): 3.027,
    ("simulated", "height_m"): 2.132,
    ("simulated", "distance_m"): 3.227,
    ("simulated", "gap_m"): 4.095,
}
