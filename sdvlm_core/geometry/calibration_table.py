"""Factors of the standard deviations, fitted to true values.

Written by

    python benchmarks/calibrate_uncertainty.py ../shared/realdata ../shared/realdata2 \\
        --simulated runs/sim606 runs/develop

Do not edit. Does not know what the rows mean (`uncertainty`).
"""

from __future__ import annotations

#: std_dev over the sum of the error sources, by kind of depth, key and situation.
SCALES: dict[tuple[str, str, str], float] = {
    ("real", "position_m", "clear"): 0.921,
    ("real", "position_m", "hidden"): 0.908,
    ("real", "position_m", "doubtful"): 1.451,
    ("real", "camera_distance_m", "clear"): 0.921,
    ("real", "camera_distance_m", "hidden"): 0.908,
    ("real", "camera_distance_m", "doubtful"): 1.451,
    ("real", "length_m", "clear"): 1.650,
    ("real", "length_m", "hidden"): 1.263,
    ("real", "length_m", "doubtful"): 1.491,
    ("real", "width_m", "clear"): 1.369,
    ("real", "width_m", "hidden"): 1.141,
    ("real", "width_m", "doubtful"): 1.493,
    ("real", "height_m", "clear"): 0.807,
    ("real", "height_m", "hidden"): 0.543,
    ("real", "height_m", "doubtful"): 1.068,
    ("real", "distance_m", "clear"): 0.969,
    ("real", "distance_m", "hidden"): 0.819,
    ("real", "distance_m", "doubtful"): 0.923,
    ("real", "gap_m", "clear"): 1.458,
    ("real", "gap_m", "hidden"): 1.487,
    ("real", "gap_m", "doubtful"): 1.496,
    ("simulated", "position_m", "clear"): 0.782,
    ("simulated", "position_m", "hidden"): 0.300,
    ("simulated", "position_m", "doubtful"): 1.078,
    ("simulated", "camera_distance_m", "clear"): 0.782,
    ("simulated", "camera_distance_m", "hidden"): 0.300,
    ("simulated", "camera_distance_m", "doubtful"): 1.078,
    ("simulated", "length_m", "clear"): 1.589,
    ("simulated", "length_m", "hidden"): 0.798,
    ("simulated", "length_m", "doubtful"): 1.236,
    ("simulated", "width_m", "clear"): 0.886,
    ("simulated", "width_m", "hidden"): 0.772,
    ("simulated", "width_m", "doubtful"): 1.515,
    ("simulated", "height_m", "clear"): 0.525,
    ("simulated", "height_m", "hidden"): 0.300,
    ("simulated", "height_m", "doubtful"): 0.300,
    ("simulated", "distance_m", "clear"): 0.562,
    ("simulated", "distance_m", "hidden"): 0.300,
    ("simulated", "distance_m", "doubtful"): 0.300,
    ("simulated", "gap_m", "clear"): 1.793,
    ("simulated", "gap_m", "hidden"): 2.267,
    ("simulated", "gap_m", "doubtful"): 0.913,
}
#: Half of the 90 % interval over std_dev, by kind of depth and key.
TAILS: dict[tuple[str, str], float] = {
    ("real", "position_m"): 1.965,
    ("real", "camera_distance_m"): 1.965,
    ("real", "length_m"): 1.827,
    ("real", "width_m"): 1.969,
    ("real", "height_m"): 2.535,
    ("real", "distance_m"): 1.973,
    ("real", "gap_m"): 1.980,
    ("simulated", "position_m"): 2.422,
    ("simulated", "camera_distance_m"): 2.422,
    ("simulated", "length_m"): 3.050,
    ("simulated", "width_m"): 2.849,
    ("simulated", "height_m"): 1.759,
    ("simulated", "distance_m"): 3.191,
    ("simulated", "gap_m"): 3.472,
}
