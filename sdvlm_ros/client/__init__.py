"""Clients for planners: blocking (`SpatialClient`) and awaitable (`AsyncSpatialClient`).

    from sdvlm_ros.client import SpatialClient

    with SpatialClient() as client:
        client.wait_for_node()
        print(client.ask("How tall is the red mug?").text)

`UNFIT` are the codes in `RegionMeasurement.warnings` that make a measurement unfit to act on.
"""

from sdvlm_core.cautions import UNFIT
from sdvlm_ros.client.asynchronous import AsyncSpatialClient
from sdvlm_ros.client.blocking import SpatialClient
from sdvlm_ros.client.messages import NoMeasurement, Size, SpatialQueryFailed

__all__ = [
    "UNFIT",
    "AsyncSpatialClient",
    "NoMeasurement",
    "Size",
    "SpatialClient",
    "SpatialQueryFailed",
]
