"""Factors of the standard deviations, fitted to true values.

Written by

    python benchmarks/calibrate_uncertainty.py ../shared/realdata ../shared/realdata2 \\
        --simulated runs/sim606 runs/develop

Do not edit. Does not know what the rows mean (`uncertainty`).
"""

from __future__ import annotations

#: std_dev over the sum of the error sources, by kind of depth, key and situation.
SCALES: dict[tuple[str, str, str], float] = {
    ("real", "position_m", "clear"): 0.856,
    ("real", "position_m", "hidden"): 0.781,
    ("real", "position_m", "doubtful"): 1.547,
    ("real", "camera_distance_m", "clear"): 0.856,
    ("real", "camera_distance_m", "hidden"): 0.781,
    ("real", "camera_distance_m", "doubtful"): 1.547,
    ("real", "length_m", "clear"): 1.632,
    ("real", "length_m", "hidden"): 1.407,
    ("real", "length_m", "doubtful"): 1.298,
    ("real", "width_m", "clear"): 1.460,
    ("real", "width_m", "hidden"): 1.252,
    ("real", "width_m", "doubtful"): 1.701,
    ("real", "height_m", "clear"): 0.833,
    ("real", "height_m", "hidden"): 0.629,
    ("real", "height_m", "doubtful"): 1.000,
    ("real", "distance_m", "clear"): 0.966,
    ("real", "distance_m", "hidden"): 0.758,
    ("real", "distance_m", "doubtful"): 0.751,
    ("real", "gap_m", "clear"): 1.458,
    ("real", "gap_m", "hidden"): 1.475,
    ("real", "gap_m", "doubtful"): 1.326,
    ("simulated", "position_m", "clear"): 0.793,
    ("simulated", "position_m", "hidden"): 0.300,
    ("simulated", "position_m", "doubtful"): 0.868,
    ("simulated", "camera_distance_m", "clear"): 0.793,
    ("simulated", "camera_distance_m", "hidden"): 0.300,
    ("simulated", "camera_distance_m", "doubtful"): 0.868,
    ("simulated", "length_m", "clear"): 1.623,
    ("simulated", "length_m", "hidden"): 0.798,
    ("simulated", "length_m", "doubtful"): 1.117,
    ("simulated", "width_m", "clear"): 0.897,
    ("simulated", "width_m", "hidden"): 0.763,
    ("simulated", "width_m", "doubtful"): 1.538,
    ("simulated", "height_m", "clear"): 0.525,
    ("simulated", "height_m", "hidden"): 0.300,
    ("simulated", "height_m", "doubtful"): 0.300,
    ("simulated", "distance_m", "clear"): 0.576,
    ("simulated", "distance_m", "hidden"): 0.300,
    ("simulated", "distance_m", "doubtful"): 0.300,
    ("simulated", "gap_m", "clear"): 1.800,
    ("simulated", "gap_m", "hidden"): 2.298,
    ("simulated", "gap_m", "doubtful"): 0.799,
}
#: Half of the 90 % interval over std_dev, by kind of depth and key.
TAILS: dict[tuple[str, str], float] = {
    ("real", "position_m"): 1.895,
    ("real", "camera_distance_m"): 1.895,
    ("real", "length_m"): 1.835,
    ("real", "width_m"): 1.936,
    ("real", "height_m"): 2.748,
    ("real", "distance_m"): 1.970,
    ("real", "gap_m"): 2.077,
    ("simulated", "position_m"): 2.823,
    ("simulated", "camera_distance_m"): 2.823,
    ("simulated", "length_m"): 3.036,
    ("simulated", "width_m"): 2.887,
    ("simulated", "height_m"): 1.783,
    ("simulated", "distance_m"): 3.151,
    ("simulated", "gap_m"): 3.667,
}
