"""The units that the project reads: spelling -> dimension and factor to SI.

A table and not pint's registry: answers use a dozen exact factors, the grammar needs the spellings
themselves (is "in" an inch or a preposition?), and importing pint takes longer than reading a
thousand answers. Metres and centimetres are read in the languages that models slip into, where the
word means nothing else. Does not know grammar.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

Dimension = Literal["length", "angle", "number"]


class Unit(NamedTuple):
    """A unit; `scale` is one unit in metres or radians."""

    dimension: Dimension
    scale: float


#: The unit of a number that is written without one.
BARE = Unit("number", 1.0)
_METRES = {
    "km kilometer kilometers kilometre kilometres": 1000.0,
    "m meter meters metre metres mtr mtrs": 1.0,
    "metro metros metri mètre mètres метр метра метров м 米 公尺 メートル 미터": 1.0,
    "dm decimeter decimeters decimetre decimetres": 0.1,
    "cm cms centimeter centimeters centimetre centimetres": 0.01,
    "zentimeter centímetro centímetros centimetro centimetros centimètre centimètres": 0.01,
    "centimetri сантиметр сантиметра сантиметров см 厘米 公分 センチ センチメートル 센티미터": 0.01,
    "mm millimeter millimeters millimetre millimetres": 0.001,
    "milímetro milímetros millimètre millimètres millimetri мм 毫米 ミリ": 0.001,
    "um µm μm micron microns micrometer micrometers micrometre micrometres": 1e-6,
    'in inch inches "': 0.0254,
    "thou mil mils": 0.0254e-3,
    "ft foot feet '": 0.3048,
    "yd yds yard yards": 0.9144,
    "mile miles": 1609.344,
}
_RADIANS = {"° deg degree degrees": math.pi / 180, "rad radian radians": 1.0}


def _spelled(dimension: Dimension, table: dict[str, float]) -> dict[str, Unit]:
    return {
        spelling: Unit(dimension, scale)
        for spellings, scale in table.items()
        for spelling in spellings.split()
    }


#: Every spelling, in lower case.
UNITS = _spelled("length", _METRES) | _spelled("angle", _RADIANS)
