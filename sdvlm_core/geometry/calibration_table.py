"""Factors of the standard deviations, fitted to true values.

Written by `python benchmarks/calibrate_uncertainty.py`: do not edit.
"""

from __future__ import annotations

#: std_dev over the sum of the error sources, by kind of depth, key and situation.
SCALES: dict[tuple[str, str, str], float] = {
    (kind, key, situation): 1.0
    for kind in ("real", "simulated")
    for key in (
        "position_m",
        "camera_distance_m",
        "length_m",
        "width_m",
        "height_m",
        "distance_m",
        "gap_m",
    )
    for situation in ("clear", "hidden", "doubtful")
}
#: Half of the 90 % interval over std_dev, by kind of depth and key.
TAILS: dict[tuple[str, str], float] = {(kind, key): 1.645 for kind, key, _ in SCALES}
