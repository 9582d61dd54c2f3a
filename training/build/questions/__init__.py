"""Scene graph of one view -> questions of MSMU's eight types, and of more, with exact answers.

`make_view` and `named_view` select what can be asked about; `ask_all` draws questions, `converse`
the turns of a conversation. Wording
belongs to a `phrasing.Style`. Every number comes from the scene graph. Does not know where a scene
graph came from, nor any pixel.

Definitions (the same for generator, scorer and model; docs/definitions.md):
    length >= width   the two horizontal sides of the upright box of an object; height is vertical
    size              the three of them; of two sizes the one with the greater volume is larger
    distance          between the centres of the two boxes, metres
    gap               between the nearest surfaces of two objects, metres
    camera distance   from the camera to the centre of the box, metres
    coordinate        centre of the visible 2-D box, (x, y) in [0, 1] of the un-padded image
    left, right       by that coordinate, from the viewer's perspective
    closer            smaller distance from the camera to the box centre
    higher            box centre further up, against gravity
    count             objects of the category with enough visible pixels, however occluded
    existence         no object of that name has a visible pixel
"""

from training.build.questions.ask import ask_all
from training.build.questions.balance import Balance
from training.build.questions.conversation import converse
from training.build.questions.question import MORE_TYPES, TYPES, Number, Question
from training.build.questions.view import MIN_AREA, View, make_view, named_view

__all__ = [
    "MIN_AREA",
    "MORE_TYPES",
    "TYPES",
    "Balance",
    "Number",
    "Question",
    "View",
    "ask_all",
    "converse",
    "make_view",
    "named_view",
]
