"""Caution: the closed list of what makes a number doubtful, for frames, measurements and answers.

The values are the codes of the JSON, the messages and the pictures; docs/geometry.md explains each.
`UNFIT` says which of them make a number unfit to act on, `OF_SIZES` which concern sizes only. Does
not know how a code is found.
"""

from __future__ import annotations

from enum import Enum


class Caution(str, Enum):
    """Why a number may be wrong."""

    # Of a frame: what the camera's data made doubtful. Every answer and every measurement made from
    # the frame carries them.
    IMPLAUSIBLE_INTRINSICS = "implausible_intrinsics"
    CAMERA_INFO_MISMATCH = "camera_info_mismatch"
    ASSUMED_RECTIFIED = "assumed_rectified"
    UNREGISTERED_DEPTH = "unregistered_depth"
    IMPLAUSIBLE_DEPTH = "implausible_depth"
    CONSTANT_DEPTH = "constant_depth"
    SPARSE_DEPTH = "sparse_depth"
    UP_UNCERTAIN = "up_uncertain"
    # Of one region.
    OUTSIDE_IMAGE = "outside_image"
    TOO_FEW_POINTS = "too_few_points"
    TRUNCATED = "truncated"
    OCCLUDED = "occluded"
    TRANSPARENT_OR_REFLECTIVE = "transparent_or_reflective"
    NO_SUPPORT_PLANE = "no_support_plane"
    NOTHING_STANDS_OUT = "nothing_stands_out"
    UNSEEN_EXTENT = "unseen_extent"
    AMBIGUOUS_EXTENT = "ambiguous_extent"
    EXTENT_FROM_COLOUR = "extent_from_colour"
    IMPRECISE = "imprecise"
    ESTIMATED_DEPTH = "estimated_depth"


#: A number with one of these cautions is unfit to act on: a robot must not move because of it, and
#: a measurement with one cannot confirm or contradict a model's answer.
UNFIT: frozenset[Caution] = frozenset(
    {
        Caution.IMPLAUSIBLE_INTRINSICS,  # every length scales with the focal length
        Caution.CAMERA_INFO_MISMATCH,  # the intrinsics may be another camera's
        Caution.UNREGISTERED_DEPTH,  # a pixel's depth may belong to another object
        Caution.IMPLAUSIBLE_DEPTH,  # every length scales with the unit of depth
        Caution.CONSTANT_DEPTH,  # a driver's replacement for readings
        Caution.UP_UNCERTAIN,  # height, length and width may be exchanged
        Caution.OUTSIDE_IMAGE,  # nothing was measured: every value is NaN
        Caution.TOO_FEW_POINTS,  # nothing was measured: every value is NaN
        Caution.TRUNCATED,  # the object ends outside the view: its sizes are lower bounds
        Caution.TRANSPARENT_OR_REFLECTIVE,  # readings lie behind the object, or are reflections
        Caution.NOTHING_STANDS_OUT,  # all pixels belong to the support: there is no object
        Caution.AMBIGUOUS_EXTENT,  # two plausible extents differ by more than 1.25
        # The sensor presets do not cover a network's scale error, which can be a third.
        Caution.ESTIMATED_DEPTH,
    }
)
#: These cautions only inform: the values can be used with their std_dev.
INFORMATIVE: frozenset[Caution] = frozenset(
    {
        Caution.ASSUMED_RECTIFIED,  # the topic's name says so, although the lens distorts
        Caution.SPARSE_DEPTH,  # what has readings is measured
        Caution.OCCLUDED,  # std_dev grows with the hidden part of the outline
        Caution.NO_SUPPORT_PLANE,  # "height" runs from the lowest reading, along the up axis
        Caution.UNSEEN_EXTENT,  # std_dev includes the possible extent without readings
        Caution.IMPRECISE,  # std_dev is large compared with the value, and says so
        Caution.EXTENT_FROM_COLOUR,  # length and width of a flat object; std_dev includes it
    }
)
#: These cautions of a region concern its sizes only: a hidden extent moves the centre by half of it
#: at most. That is little compared with a distance, and a part of its std_dev.
OF_SIZES: frozenset[Caution] = frozenset(
    {
        Caution.OCCLUDED,
        Caution.NO_SUPPORT_PLANE,
        Caution.UNSEEN_EXTENT,
        Caution.EXTENT_FROM_COLOUR,
        Caution.IMPRECISE,
    }
)
