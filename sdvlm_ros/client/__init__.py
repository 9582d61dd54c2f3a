"""Clients for planners: blocking and awaitable, and what they send and return."""

from sdvlm_core.geometry.measure import UNFIT

#: `UNFIT`: codes in `RegionMeasurement.warnings` that make a measurement unfit to act on.
__all__ = ["UNFIT"]
