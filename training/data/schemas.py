"""Arrow schemas of the files that training writes: conversations, and simulated frames.

Names columns and their types. Does not know how a row is made, nor what its text means.
"""

from __future__ import annotations

import json

import pyarrow as pa

_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])

#: One image with its conversation. image (JPEG) and conversations are as in the released MSMU;
#: `type` has one entry per question. depth is PNG, uint16 millimetres, 0 = no reading;
#: camera_to_world is 4x4, row by row; scene_graph is JSON (`training.build.graph`).
CONVERSATIONS = pa.schema(
    [
        ("image", _IMAGE),
        ("conversations", pa.list_(pa.struct([("from", pa.string()), ("value", pa.string())]))),
        ("type", pa.list_(pa.string())),
        ("depth", _IMAGE),
        (
            "intrinsics",
            pa.struct(
                [(key, pa.float64()) for key in ("fx", "fy", "cx", "cy")]
                + [("width", pa.int32()), ("height", pa.int32())]
            ),
        ),
        ("camera_to_world", pa.list_(pa.float64())),
        ("scene_graph", pa.string()),
        (
            "thoughts",
            pa.list_(
                pa.struct(
                    [(key, pa.string()) for key in ("question", "answer", "text")]
                    + [("accepted", pa.bool_()), ("reason", pa.string())]
                )
            ),
        ),
        ("source", pa.string()),
        ("scene", pa.string()),
        ("view", pa.string()),
    ],
    # `datasets` decodes the columns that this entry declares as images.
    metadata={
        "huggingface": json.dumps(
            {"info": {"features": {key: {"_type": "Image"} for key in ("image", "depth")}}}
        )
    },
)

#: One simulated RGB-D frame. rgb, depth (uint16 millimetres, 0 = no reading) and instance
#: (uint8, 0 = room) are PNG; intrinsics, camera_to_world and objects are JSON.
SIMULATED_FRAMES = pa.schema(
    [
        ("scene", pa.int64()),
        ("width", pa.int64()),
        ("height", pa.int64()),
        ("rgb", pa.binary()),
        ("depth", pa.binary()),
        ("instance", pa.binary()),
        ("intrinsics", pa.string()),
        ("camera_to_world", pa.string()),
        ("objects", pa.string()),
    ]
)
