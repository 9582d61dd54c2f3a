"""All rows of the table of field situations, in its order."""

from __future__ import annotations

from tests.situations.calibrations import (
    info_situations,
    lens_situations,
    mount_situations,
    registration_situations,
)
from tests.situations.contents import (
    color_situations,
    depth_situations,
    huge_situations,
    stamp_situations,
)
from tests.situations.files import bag_situations, huge_file_situations, intrinsics_situations

SITUATIONS = (
    *depth_situations(),
    *registration_situations(),
    *lens_situations(),
    *info_situations(),
    *mount_situations(),
    *huge_situations(),
    *color_situations(),
    *stamp_situations(),
)
FILES = (*intrinsics_situations(), *huge_file_situations(), *bag_situations())
