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
    ("real", "position_m", "doubtful"): 1.266,
    ("real", "camera_distance_m", "clear"): 1.032,
    ("real", "camera_distance_m", "hidden"): 0.958,
    ("real", "camera_distance_m", "doubtful"): 1.266,
    ("real", "length_m", "clear"): 1.312,
    ("real", "length_m", "hidden"): 1.395,
    ("real", "length_m", "doubtful"): 1.583,
    ("real", "width_m", "clear"): 1.482,
    ("real", "width_m", "hidden"): 1.300,
    ("real", "width_m", "doubtful"): 1.330,
    ("real", "height_m", "clear"): 1.326,
    ("real", "height_m", "hidden"): 1.056,
    ("real", "height_m", "doubtful"): 2.356,
    ("real", "distance_m", "clear"): 1.012,
    ("real", "distance_m", "hidden"): 1.164,
    ("real", "distance_m", "doubtful"): 1.221,
    ("real", "gap_m", "clear"): 1.807,
    ("real", "gap_m", "hidden"): 1.962,
    ("real", "gap_m", "doubtful"): 2.127,
    ("simulated", "position_m", "clear"): 0.838,
    ("simulated", "position_m", "hidden"): 0.300,
    ("simulated", "position_m", "doubtful"): 0.672,
    ("simulated", "camera_distance_m", "clear"): 0.838,
    ("simulated", "camera_distance_m", "hidden"): 0.300,
    ("simulated", "camera_distance_m", "doubtful"): 0.672,
    ("simulated", "length_m", "clear"): 1.653,
    ("simulated", "length_m", "hidden"): 0.673,
    ("simulated", "length_m", "doubtful"): 0.963,
    ("simulated", "width_m", "clear"): 0.995,
    ("simulated", "width_m", "hidden"): 0.700,
    ("simulated", "width_m", "doubtful"): 1.060,
    ("simulated", "height_m", "clear"): 0.496,
    ("simulated", "height_m", "hidden"): 0.300,
    ("simulated", "height_m", "doubtful"): 0.300,
    ("simulated", "distance_m", "clear"): 0.596,
    ("simulated", "distance_m", "hidden"): 0.300,
    ("simulated", "distance_m", "doubtful"): 0.368,
    ("simulated", "gap_m", "clear"): 1.669,
    ("simulated", "gap_m", "hidden"): 1.950,
    ("simulated", "gap_m", "doubtful"): 1.096,
}
#: Half of the 90 % interval over std_dev, by kind of depth and key.
TAILS: dict[tuple[str, str], float] = {
    ("real", "position_m"): 2.650,
    ("real", "camera_distance_m"): 2.650,
    ("real", "length_m"): 2.308,
    ("real", "width_m"): 2.048,
    ("real", "height_m"): 4.595,
    ("real", "distance_m"): 2.239,
    ("real", "gap_m"): 2.328,
    ("simulated", "position_m"): 3.285,
    ("simulated", "camera_distance_m"): 3.285,
    ("simulated", "length_m"): 3.003,
    ("simulated", "width_m"): 2.748,
    ("simulated", "height_m"): 1.878,
    ("simulated", "distance_m"): 3.492,
    ("simulated", "gap_m"): 3.838,
}
