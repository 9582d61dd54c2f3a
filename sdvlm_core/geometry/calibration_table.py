"""Factors of the standard deviations, fitted to true values.

Written by

    python benchmarks/calibrate_uncertainty.py ../shared/realdata ../shared/realdata2 \\
        --simulated runs/sim606

Do not edit. Does not know what the rows mean (`uncertainty`).
"""

from __future__ import annotations

#: std_dev over the sum of the error sources, by kind of depth, key and situation.
SCALES: dict[tuple[str, str, str], float] = {
    ("real", "position_m", "clear"): 1.037,
    ("real", "position_m", "hidden"): 0.958,
    ("real", "position_m", "doubtful"): 1.293,
    ("real", "camera_distance_m", "clear"): 1.037,
    ("real", "camera_distance_m", "hidden"): 0.958,
    ("real", "camera_distance_m", "doubtful"): 1.293,
    ("real", "length_m", "clear"): 1.127,
    ("real", "length_m", "hidden"): 1.006,
    ("real", "length_m", "doubtful"): 0.856,
    ("real", "width_m", "clear"): 1.436,
    ("real", "width_m", "hidden"): 1.226,
    ("real", "width_m", "doubtful"): 1.316,
    ("real", "height_m", "clear"): 1.205,
    ("real", "height_m", "hidden"): 0.860,
    ("real", "height_m", "doubtful"): 1.120,
    ("real", "distance_m", "clear"): 1.061,
    ("real", "distance_m", "hidden"): 1.163,
    ("real", "distance_m", "doubtful"): 1.218,
    ("real", "gap_m", "clear"): 1.550,
    ("real", "gap_m", "hidden"): 1.724,
    ("real", "gap_m", "doubtful"): 1.931,
    ("simulated", "position_m", "clear"): 0.815,
    ("simulated", "position_m", "hidden"): 0.300,
    ("simulated", "position_m", "doubtful"): 0.577,
    ("simulated", "camera_distance_m", "clear"): 0.815,
    ("simulated", "camera_distance_m", "hidden"): 0.300,
    ("simulated", "camera_distance_m", "doubtful"): 0.577,
    ("simulated", "length_m", "clear"): 1.607,
    ("simulated", "length_m", "hidden"): 0.666,
    ("simulated", "length_m", "doubtful"): 1.040,
    ("simulated", "width_m", "clear"): 0.953,
    ("simulated", "width_m", "hidden"): 0.666,
    ("simulated", "width_m", "doubtful"): 1.525,
    ("simulated", "height_m", "clear"): 0.511,
    ("simulated", "height_m", "hidden"): 0.300,
    ("simulated", "height_m", "doubtful"): 0.300,
    ("simulated", "distance_m", "clear"): 0.524,
    ("simulated", "distance_m", "hidden"): 0.300,
    ("simulated", "distance_m", "doubtful"): 0.300,
    ("simulated", "gap_m", "clear"): 1.661,
    ("simulated", "gap_m", "hidden"): 1.979,
    ("simulated", "gap_m", "doubtful"): 0.904,
}
#: Half of the 90 % interval over std_dev, by kind of depth and key.
TAILS: dict[tuple[str, str], float] = {
    ("real", "position_m"): 2.943,
    ("real", "camera_distance_m"): 2.943,
    ("real", "length_m"): 1.956,
    ("real", "width_m"): 2.120,
    ("real", "height_m"): 1.949,
    ("real", "distance_m"): 2.207,
    ("real", "gap_m"): 2.442,
    ("simulated", "position_m"): 2.950,
    ("simulated", "camera_distance_m"): 2.950,
    ("simulated", "length_m"): 3.139,
    ("simulated", "width_m"): 2.650,
    ("simulated", "height_m"): 1.831,
    ("simulated", "distance_m"): 3.158,
    ("simulated", "gap_m"): 4.057,
}
