"""Factors of the standard deviations, fitted to true values.

Written by

    python benchmarks/calibrate_uncertainty.py /work/shared/realdata /work/shared/realdata2

Do not edit. Does not know what the rows mean (`uncertainty`)."""

from __future__ import annotations

#: std_dev over the sum of the error sources, by kind of depth, key and situation.
SCALES: dict[tuple[str, str, str], float] = {
    ("real", "position_m", "clear"): 0.983,
    ("real", "position_m", "hidden"): 1.052,
    ("real", "position_m", "doubtful"): 1.513,
    ("real", "camera_distance_m", "clear"): 0.983,
    ("real", "camera_distance_m", "hidden"): 1.052,
    ("real", "camera_distance_m", "doubtful"): 1.513,
    ("real", "length_m", "clear"): 1.203,
    ("real", "length_m", "hidden"): 1.119,
    ("real", "length_m", "doubtful"): 0.942,
    ("real", "width_m", "clear"): 1.757,
    ("real", "width_m", "hidden"): 1.530,
    ("real", "width_m", "doubtful"): 1.568,
    ("real", "height_m", "clear"): 1.368,
    ("real", "height_m", "hidden"): 0.725,
    ("real", "height_m", "doubtful"): 2.222,
    ("real", "distance_m", "clear"): 1.062,
    ("real", "distance_m", "hidden"): 1.181,
    ("real", "distance_m", "doubtful"): 1.613,
    ("real", "gap_m", "clear"): 2.075,
    ("real", "gap_m", "hidden"): 2.187,
    ("real", "gap_m", "doubtful"): 2.290,
    ("simulated", "position_m", "clear"): 1.000,
    ("simulated", "position_m", "hidden"): 1.000,
    ("simulated", "position_m", "doubtful"): 1.000,
    ("simulated", "camera_distance_m", "clear"): 1.000,
    ("simulated", "camera_distance_m", "hidden"): 1.000,
    ("simulated", "camera_distance_m", "doubtful"): 1.000,
    ("simulated", "length_m", "clear"): 1.000,
    ("simulated", "length_m", "hidden"): 1.000,
    ("simulated", "length_m", "doubtful"): 1.000,
    ("simulated", "width_m", "clear"): 1.000,
    ("simulated", "width_m", "hidden"): 1.000,
    ("simulated", "width_m", "doubtful"): 1.000,
    ("simulated", "height_m", "clear"): 1.000,
    ("simulated", "height_m", "hidden"): 1.000,
    ("simulated", "height_m", "doubtful"): 1.000,
    ("simulated", "distance_m", "clear"): 1.000,
    ("simulated", "distance_m", "hidden"): 1.000,
    ("simulated", "distance_m", "doubtful"): 1.000,
    ("simulated", "gap_m", "clear"): 1.000,
    ("simulated", "gap_m", "hidden"): 1.000,
    ("simulated", "gap_m", "doubtful"): 1.000,
}
#: Half of the 90 % interval over std_dev, by kind of depth and key.
TAILS: dict[tuple[str, str], float] = {
    ("real", "position_m"): 2.846,
    ("real", "camera_distance_m"): 2.846,
    ("real", "length_m"): 2.077,
    ("real", "width_m"): 3.265,
    ("real", "height_m"): 6.259,
    ("real", "distance_m"): 1.968,
    ("real", "gap_m"): 2.075,
    ("simulated", "position_m"): 1.645,
    ("simulated", "camera_distance_m"): 1.645,
    ("simulated", "length_m"): 1.645,
    ("simulated", "width_m"): 1.645,
    ("simulated", "height_m"): 1.645,
    ("simulated", "distance_m"): 1.645,
    ("simulated", "gap_m"): 1.645,
}
