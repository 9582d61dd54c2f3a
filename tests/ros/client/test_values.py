"""Values that the client takes from a response: fit to act on, or refused."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy")

from sdvlm.msg import PairMeasurement, RegionMeasurement
from sdvlm.srv import MeasureRegions
from sdvlm_core.cautions import INFORMATIVE, OF_SIZES, UNFIT
from sdvlm_ros.client.messages import (
    NoMeasurement,
    measured_distance,
    measured_position,
    measured_size,
)


def response(*warnings: str) -> MeasureRegions.Response:
    """A measured pair; the warnings are those of the first region and of the pair."""
    codes, of_sizes = list(warnings), {code.value for code in OF_SIZES}
    distance = [code for code in codes if code not in of_sizes]
    box = RegionMeasurement(label="box", length=0.2, width=0.1, height=0.3, camera_distance=1.0)
    box.position.z = 1.0
    box.warnings, box.distance_warnings = codes, distance
    pair = PairMeasurement(a="box", b="cup", distance=0.4, warnings=codes)
    pair.distance_warnings = distance
    return MeasureRegions.Response(regions=[box, RegionMeasurement(label="cup")], pairs=[pair])


@pytest.mark.parametrize("code", sorted(UNFIT))
def test_a_value_that_is_unfit_to_act_on_is_refused_by_the_name_of_its_warning(code):
    found = response(code.value)
    values = [lambda: measured_size(found.regions[0]), lambda: measured_position(found)]
    if code not in OF_SIZES:
        values.append(lambda: measured_distance(found, "box", "cup"))
        values.append(lambda: measured_distance(found, "box", ""))
    for value in values:
        with pytest.raises(NoMeasurement, match=code.value):
            value()


@pytest.mark.parametrize("code", sorted(UNFIT & OF_SIZES))
def test_an_unfit_size_does_not_make_the_distance_unfit(code):
    found = response(code.value)
    assert measured_distance(found, "box", "cup").value == 0.4
    assert measured_distance(found, "box", "").value == 1.0


@pytest.mark.parametrize("code", sorted(INFORMATIVE))
def test_a_value_with_an_informative_warning_is_returned(code):
    found = response(code.value)
    assert measured_size(found.regions[0]).height.value == 0.3
    assert measured_distance(found, "box", "cup").value == 0.4
    assert measured_distance(found, "box", "").value == 1.0
    assert measured_position(found).point.z == 1.0
