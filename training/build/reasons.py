"""Why a scene, a view or an object of a scan is left out: every reason that a reader can give.

The texts are stable: `manifest.json` counts them as `LEVEL: TEXT`, such as `view: pose not rigid`.
Knows the words only. The reasons for not asking about a sound object are those of `selection`.
"""

from __future__ import annotations

from enum import Enum


class Reason(Enum):
    """The reasons; the level is that of the part which is left out."""

    # Files, at any level.
    MISSING_FILE = "missing file"
    DAMAGED_FILE = "damaged file"  # of none of the kinds below
    MESH_DAMAGED = "mesh damaged"
    ANNOTATION_DAMAGED = "annotation damaged"  # segments, and objects of segments
    CAMERA_DAMAGED = "camera file damaged"  # poses and intrinsics, or an entry of them
    FILE_TOO_LARGE = "file too large"
    NO_PICTURES = "no pictures"

    # Scenes.
    BAD_ALIGNMENT = "bad alignment"  # axisAlignment is not a finite rigid motion about the vertical
    NOT_IN_METRES = "not in metres"  # the extent of the mesh is not that of a room or building
    SEGMENTS_DO_NOT_FIT = "segments do not fit"  # another number of them than of vertices
    NO_OBJECTS = "no objects"  # none with a label and a place: only denials could be asked

    # Views: the camera.
    NO_POSE = "no pose"  # missing, NaN or infinite: tracking was lost
    POSE_NOT_RIGID = "pose not rigid"  # zero, scaled, sheared or mirrored
    BAD_INTRINSICS = "bad intrinsics"  # not finite, not positive, or no camera's field of view
    OTHER_INTRINSICS = "intrinsics of another size"  # the principal point is far from the centre
    OTHER_SIZE = "picture of another size"  # than the file of the camera states
    CAMERA_MODEL = "camera model"  # not supported
    DUPLICATE_VIEW = "duplicate view"  # the same name or number with another camera, or again

    # Views: the images.
    COLOUR_DAMAGED = "colour damaged"
    DEPTH_DAMAGED = "depth damaged"
    MASK_DAMAGED = "mask damaged"
    DEPTH_UNIT = "no depth unit"  # depth_shift is 0, negative, NaN or absurd
    DEPTH_COMPRESSION = "depth compression"  # not supported
    NO_DEPTH_READING = "no depth reading"  # in nearly all pixels
    SENS_VERSION = "sens version"
    SENS_TRUNCATED = "sens file truncated"
    SENS_DAMAGED = "sens file damaged"
    NOT_EXTRACTED = "iphone not extracted"
    BAD_VIEW = "bad view"  # marked so by the data set

    # Views: image and mesh contradict each other.
    OFF_THE_MESH = "off the mesh"  # the pose sees hardly any surface
    DEPTH_DISAGREES = "depth disagrees with the mesh"
    COLOUR_DISAGREES = "colour disagrees with the mesh"  # of a view without depth
    MASK_DISAGREES = "mask disagrees with the mesh"
    NO_NAMED_OBJECT = "no named object"  # only denials could be asked

    # Objects of the annotation.
    NO_LABEL = "no label"  # empty, null or not text
    DUPLICATE_ID = "duplicate id"  # two objects of one objectId
    CONTRADICTORY_LABELS = "contradictory labels"  # one surface, two labels
    COVERED = "covered by other objects"  # smaller objects own all of its vertices
    NO_VERTICES = "no vertices"
    IMPLAUSIBLE_SIZE = "implausible size"
