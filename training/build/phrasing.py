"""Templates of questions and answers: one Style per data set.

`METRIC` asks and answers shortly, in metres only. `MSMU` keeps the answer patterns of the released
data, including its grammar errors, because the loss is computed on them; where it differs is in
docs/fidelity.md.
The styles of nano, which are much wider, are in `wordings`. Knows templates, units and rounding.
Does not know objects.

Placeholders: {what} height, width or size; {name}, {a}, {b}, {c} objects; {v}, {va}, {vb}, {vc}
their values as text; {winner}, {word} of a comparison; {things} a plural; {n} a count; {at} an
image position; {fact} a sentence that gives the reference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

Rng = np.random.Generator
Length = Callable[[float, Rng], str]


@dataclass(frozen=True, eq=False)
class Style:
    """Templates of one data set.

    Attributes:
        ask, answer: kind of question -> templates, one of which is drawn.
        more, most: words that compare two, or three -> the measure that they compare, and 1 if the
            larger value wins, else -1.
        length: metres -> text; draws the unit if the style mixes units.
        yes_no: whether existence is also asked as "is there"; else only by a false premise.
        zeros: whether the coordinates of an image position keep trailing zeros.
        measures: what the size of one object is asked by.
        relations: relation -> its wordings, and whether each means the relation or its opposite;
            a relation that is missing has one wording, its name.
        which: relation -> kinds of the question which object it holds for, and whether the kind
            means the relation or its opposite.
        beyond: what is asked beyond the eight types of MSMU; None = nothing.
    """

    name: str
    ask: Mapping[str, Sequence[str]]
    answer: Mapping[str, Sequence[str]]
    more: Mapping[str, tuple[str, int]]
    most: Mapping[str, tuple[str, int]]
    length: Length
    yes_no: bool
    zeros: bool = True
    measures: Sequence[str] = ("height", "width", "size")
    relations: Mapping[str, Sequence[tuple[str, bool]]] = field(default_factory=dict)
    which: Mapping[str, Sequence[tuple[str, bool]]] = field(
        default_factory=lambda: {
            "closer than": (("closer", True),),
            "higher than": (("higher", True),),
        }
    )
    beyond: Beyond | None = None


@dataclass(frozen=True)
class Unit:
    """A unit that an answer may be asked in.

    Attributes:
        name: in the question and in the answer.
        metres: one unit in metres.
        decimals: of a number that is not small.
    """

    name: str
    metres: float
    decimals: int

    def length(self, value: float, _: Rng) -> str:
        """Metres as text in this unit; small numbers have one decimal more."""
        number = value / self.metres
        decimals = self.decimals + (number < _SMALL_NUMBER and self.metres < 1)
        return f"{number:.{decimals}f} {self.name}"


_SMALL_NUMBER = 10.0


@dataclass(frozen=True, eq=False)
class Beyond:
    """What a style asks beyond MSMU.

    Attributes:
        things: names of objects that no image shows.
        questions: questions that are to be refused.
        units: wordings of the unit that is asked for.
        unit_share: share of the questions about lengths that ask for a unit.
        lower_share, upper_share: shares of the questions in lower case, and in capitals.
    """

    things: Sequence[str]
    questions: Sequence[str]
    units: Sequence[str]
    unit_share: float = 0.3
    lower_share: float = 0.0
    upper_share: float = 0.0


#: The units that are asked for; the more frequent ones several times.
UNITS = (
    *(Unit("cm", 0.01, 0),) * 4,
    Unit("centimeters", 0.01, 0),
    Unit("mm", 0.001, 0),
    *(Unit("m", 1.0, 2), Unit("meters", 1.0, 2)),
    *(Unit("inches", 0.0254, 1),) * 2,
    Unit("feet", 0.3048, 2),
)


def pick(rng: Rng, options: Sequence[str]) -> str:
    """One of several options; a single option consumes no random number."""
    return options[int(rng.integers(len(options)))] if len(options) > 1 else options[0]


def fill(rng: Rng, options: Sequence[str], **values: object) -> str:
    """One of several templates, filled in."""
    return pick(rng, options).format(**values)


#: Frequencies in 138 released answers: 40, 35 and 25 %.
_MIXED_UNITS = (*("cm",) * 8, *("m",) * 7, *("meters",) * 5)


def _metres(value: float, rng: Rng) -> str:
    return f"{value:.2f} m"


def _mixed(value: float, rng: Rng) -> str:
    """cm, m or meters, two decimals without trailing zeros; always cm below 10 cm.

    There two decimals of metres would have an error of a tenth.
    """
    unit = "cm" if value < 0.1 else pick(rng, _MIXED_UNITS)
    return f"{without_zeros(value * (100 if unit == 'cm' else 1))} {unit}"


def without_zeros(number: float) -> str:
    """Two decimals, trailing zeros dropped."""
    return f"{number:.2f}".rstrip("0").rstrip(".")


_SIZE = ("What is the {what} of the {name}?", "Can you measure the {what} of the {name}?")
_APART = (
    "What is the distance between the {a} and the {b}?",
    "How far apart are the {a} and the {b}?",
    "How far is the {a} from the {b}?",
)

METRIC = Style(
    name="metric",
    ask={
        "height": (*_SIZE, "How tall is the {name}?"),
        "width": (*_SIZE, "How wide is the {name}?"),
        "size": ("What is the size of the {name}?", "How big is the {name}?"),
        "distance": _APART,
        "there": ("Is there {a_name} in the image?", "Can you see {a_name}?"),
        "count": ("How many {things} are there in the image?", "What is the number of {things}?"),
        "coordinate": (
            "What is the coordinate of the {name}?",
            "Where is the {name} in the image?",
        ),
        "object": ("What object is located at {at}?", "What can you find at {at}?"),
        "relation": ("Is the {a} {relation} the {b}?",),
        "closer": ("Which one is closer, the {a} or the {b}?",),
        "higher": ("Which one is higher, the {a} or the {b}?",),
        "compare two": ("Which one is {word}, the {a} or the {b}?",),
        "compare three": ("Which is the {word}: the {a}, the {b} or the {c}?",),
        "refer two": ("{fact}, what is the {what} of the {b}?",),
        "refer three": ("{fact}, what is the {what} of the {b} and the {c}?",),
    },
    answer={
        "height": ("{v}.",),
        "width": ("{v}.",),
        "size": ("{v}.",),
        "distance": ("{v}.",),
        "absent": ("There is no {name} in the image.",),
        "count": ("{n}.",),
        "coordinate": ("{at}.",),
        "object": ("The {name}.",),
        "relation yes": ("Yes.",),
        "relation no": ("No.",),
        "closer": ("The {winner}.",),
        "higher": ("The {winner}.",),
        "compare two": ("The {winner}.",),
        "compare three": ("The {winner}.",),
        "refer two": ("{vb}.",),
        "refer three": ("{vb} and {vc}.",),
    },
    more={
        "taller": ("height", 1),
        "lower": ("height", -1),
        "wider": ("width", 1),
        "longer": ("length", 1),
    },
    most={"tallest": ("height", 1), "lowest": ("height", -1), "widest": ("width", 1)},
    length=_metres,
    yes_no=True,
)

MSMU = Style(
    name="msmu",
    ask={
        "height": (
            "What is the height of the {name}?",
            "How tall is the {name}?",
            "Can you tell me the height of the {name}?",
            "Please measure the height of the {name}.",
        ),
        "width": (
            "What is the width of the {name}?",
            "How wide is the {name}?",
            "Can you tell me the width of the {name}?",
            "Please measure the width of the {name}.",
        ),
        "size": (
            "What is the size of the {name}?",
            "How big is the {name}?",
            "Please give the length, width and height of the {name}.",
        ),
        "distance": (
            *_APART,
            "Please measure the distance from the {a} to the {b}.",
        ),
        "count": (
            "How many {things} are there in the image ?",
            "what's the total number of {things} in the image?",
            "Can you count the {things} in this picture?",
        ),
        "coordinate": (
            "What is the coordinate of the {name} ?",
            "Where is the {name} in the image? Give its coordinate.",
            "At which position of the image is the {name}?",
        ),
        "object": (
            "What object is located at {at}?",
            "What can you find at {at}?",
            "What object does the position {at} belong to?",
        ),
        "relation": (
            "Is the {a} {relation} the {b}?",
            "Is the {a} {relation} the {b} from the viewer's perspective ?",
        ),
        "closer": (
            "Which one is closer to the viewer, the {a} or the {b}?",
            "Between the {a} and the {b}, which one is closer?",
        ),
        "higher": (
            "Which one stands higher, the {a} or the {b}?",
            "Between the {a} and the {b}, which one is higher?",
        ),
        "compare two": (
            "Which one is {word}, the {a} or the {b}?",
            "Between the {a} and the {b}, which one is {word}?",
        ),
        "compare three": (
            "What is {word} among the {a}, the {b}, or the {c}?",
            "Which is the {word}: the {a}, the {b} or the {c}?",
        ),
        "refer two": (
            "{fact}, what is the {what} of the {b}?",
            "{fact}, can you measure the {what} of the {b}?",
            "{fact}, please estimate the {what} of the {b}.",
        ),
        "refer three": (
            "{fact}, what is the {what} of the {b} and the {c}?",
            "{fact}, can you measure the {what} of the {b} and the {c}?",
        ),
        "refer distance": (
            "{fact}, what is the distance between the {b} and the {c}?",
            "{fact}, how far apart are the {b} and the {c}?",
        ),
    },
    answer={
        "height": (
            "The height of the {name} is {v}.",
            "the {name} measures {v} in height.",
            "the {name} is with the height of {v}.",
        ),
        "width": (
            "The width  of the {name} is {v}.",
            "the {name} measures {v} in width.",
            "the {name} is with the width of {v}.",
        ),
        "size": (
            "The size of the {name} is {v}. ",
            "the {name} is with the length of {vl}, width of {vw}, and height of {vh}.",
        ),
        "distance": (
            "The distance is {v}.",
            "A distance of {v} exists between the {a} and the {b}.",
            "the {a} and the {b} are {v} apart from each other.",
        ),
        "absent": (
            "No {name} in the scene.",
            "There is no {name} in the image",
            "Can not find {things}.",
        ),
        "count": ("{n}.", "There {are} {n} {noun} in the image."),
        "coordinate": ("{at}.", "It is located at {at} in the image."),
        "object": ("the {name}.", "It is the {name}.", "That is the {name}."),
        "relation yes": (
            "Yes, the {a} is {relation} the {b}.",
            "Indeed, the {a} is {placed} the {b}.",
        ),
        "relation no": ("No, the {a} is {opposite} the {b}.",),
        "closer": ("the {winner} is more closer.",),
        "higher": ("the {winner} stands higher.",),
        "compare two": (
            "The {what} of the {a} is {va} and the {b} is {vb}, so the {winner} is {word}.",
        ),
        "compare three": (
            "The {word} is the {winner}.",
            "The {what} of the {a}, the {b} and the {c} are {va}, {vb} and {vc}, "
            "so the {word} is the {winner}.",
        ),
        "refer two": (
            "Since the {given} of the {a} is {va}, i think the {what} of the {b} is {vb}.",
            "Since the {given} of the {a} is {va}, i think the {b} is {vb} in {what}.",
        ),
        "refer three": (
            "Since the {given} of the {a} is {va},i think  the {what} of the {b} is {vb} and the "
            "{what} of the {c} is {vc}.",
        ),
        "refer distance": (
            "Since the distance between the {a} and the {b} is {va}, i think the distance between "
            "the {b} and the {c} is {vb}.",
        ),
    },
    more={
        "taller": ("height", 1),
        "lower": ("height", -1),
        "wider": ("width", 1),
        "larger": ("size", 1),
        "smaller": ("size", -1),
    },
    most={
        "tallest": ("height", 1),
        "lowest": ("height", -1),
        "widest": ("width", 1),
        "largest": ("size", 1),
        "smallest": ("size", -1),
    },
    length=_mixed,
    yes_no=False,
    zeros=False,
)

STYLES = {style.name: style for style in (METRIC, MSMU)}


def plural(category: str) -> str:
    """The plural of a category."""
    head, _, last = category.rpartition(" ")
    irregular = {"shelf": "shelves", "mouse": "mice", "bookshelf": "bookshelves"}
    if last in irregular:
        word = irregular[last]
    elif last.endswith(("x", "s", "ch", "sh")):
        word = f"{last}es"
    else:
        word = f"{last}s"
    return f"{head} {word}".strip()


def with_article(name: str) -> str:
    """A name after "a" or "an"."""
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
