"""Cautions in words for people: what each code means, and what to do; docs/geometry.md has more.

Does not know how a code is found.
"""

from __future__ import annotations

from sdvlm_core.cautions import UNFIT, Caution

#: (what it means, what to do) of each code.
_WORDS: dict[Caution, tuple[str, str]] = {
    Caution.IMPLAUSIBLE_INTRINSICS: (
        "The intrinsics are not those of an RGB-D camera, so every length may be wrong.",
        "Check camera_info: is it for this image size?",
    ),
    Caution.CAMERA_INFO_MISMATCH: (
        "camera_info has another frame_id than the colour image.",
        "Use the camera_info of the colour camera.",
    ),
    Caution.ASSUMED_RECTIFIED: (
        "The lens distorts, and the topic's name says that its image is rectified already.",
        "Set rectify if that is wrong.",
    ),
    Caution.UNREGISTERED_DEPTH: (
        "Depth does not seem to be registered to colour: a pixel's depth may be of another object.",
        "Register depth to colour in the driver.",
    ),
    Caution.IMPLAUSIBLE_DEPTH: (
        "Most depth is outside of the sensor's range, or is not the distance along the axis.",
        "Check the unit of depth and the sensor.",
    ),
    Caution.CONSTANT_DEPTH: ("All depth readings are equal.", "Check the depth driver."),
    Caution.SPARSE_DEPTH: (
        "Few pixels have a depth reading.",
        "Move the camera, or check the sensor.",
    ),
    Caution.UP_UNCERTAIN: (
        "Which way is up is not certain: height, length and width may be exchanged.",
        "Give --up, or the node's gravity_frame.",
    ),
    Caution.OUTSIDE_IMAGE: (
        "The region is outside of the image; nothing was measured.",
        "Check the region's pixels.",
    ),
    Caution.TOO_FEW_POINTS: (
        "There are too few depth readings here; nothing was measured.",
        "Draw the box around the object, or move the camera.",
    ),
    Caution.TRUNCATED: (
        "The object ends outside of the view: its sizes are lower bounds.",
        "Turn the camera.",
    ),
    Caution.OCCLUDED: (
        "A nearer object hides a part; the standard deviation includes it.",
        "Move the camera.",
    ),
    Caution.TRANSPARENT_OR_REFLECTIVE: (
        "The object may be transparent or reflective: depth may be behind it.",
        "Do not use any of the values.",
    ),
    Caution.NO_SUPPORT_PLANE: (
        "No horizontal surface was found under the object; height starts at its lowest reading.",
        "Tilt the camera down.",
    ),
    Caution.NOTHING_STANDS_OUT: (
        "Nothing stands out from the surface here: it is flat, or invisible to the sensor.",
        "Check the region.",
    ),
    Caution.UNSEEN_EXTENT: (
        "A part is not seen and may be larger; the standard deviation includes it.",
        "Move the camera.",
    ),
    Caution.AMBIGUOUS_EXTENT: (
        "It is not certain what belongs to the object; the standard deviation covers both sizes.",
        "Draw the box closely around one object, or move the camera.",
    ),
    Caution.EXTENT_FROM_COLOUR: (
        "Depth cannot tell the object from its support: length and width come from colour.",
        "",
    ),
    Caution.IMPRECISE: (
        "The standard deviation is large compared with the value.",
        "Move the camera closer.",
    ),
    Caution.ESTIMATED_DEPTH: (
        "Depth comes from a network, not from a sensor.",
        "Use ratios, not metres.",
    ),
}


def caution_words() -> dict[str, dict[str, object]]:
    """By code: its `meaning`, its `advice` ("" = none), and whether it makes values `unfit`."""
    return {
        code.value: {"meaning": meaning, "advice": advice, "unfit": code in UNFIT}
        for code, (meaning, advice) in _WORDS.items()
    }
