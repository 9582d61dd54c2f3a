"""The words that the grammar of answers knows, by their role in a clause.

A word that is in none of these tables names an object, or is not understood. Does not know grammar.
"""

from __future__ import annotations

from sdvlm_core.language.relations import RELATION_WORDS
from sdvlm_core.language.tokens import vocabulary

#: Nouns and adjectives of a measure -> the measure; "other" is none that can be asked for.
NOUNS = {
    **dict.fromkeys(("distance", "distances", "separation"), "distance"),
    **dict.fromkeys(("gap", "clearance", "spacing", "space"), "gap"),
    **dict.fromkeys(("width", "breadth", "widths", "diameter"), "width"),
    **dict.fromkeys(("size", "dimension", "dimensions", "sizes", "measurements"), "size"),
    **dict.fromkeys(("height", "heights"), "height"),
    **dict.fromkeys(("length", "lengths"), "length"),
    "depth": "depth",
    **dict.fromkeys(("difference", "differences"), "difference"),
    **dict.fromkeys(
        vocabulary(
            "thickness radius area volume angle circumference perimeter diagonal weight elevation "
            "altitude error uncertainty margin tolerance accuracy precision deviation resolution "
            "scale offset ratio focal"
        ),
        "other",
    ),
}
ADJECTIVES = {
    **dict.fromkeys(("apart", "away", "far", "distant"), "distance"),
    **dict.fromkeys(("tall", "high"), "height"),
    **dict.fromkeys(("wide", "broad", "across"), "width"),
    **dict.fromkeys(("long", "lengthwise"), "length"),
    "deep": "deep",
    **dict.fromkeys(("thick", "square", "diagonally"), "other"),
}
#: Letters and words of "W x H x D".
SIDES = {
    **dict.fromkeys(("w", "width", "wide"), "width"),
    **dict.fromkeys(("h", "height", "high", "tall"), "height"),
    **dict.fromkeys(("l", "length", "long"), "length"),
    **dict.fromkeys(("d", "depth", "deep"), "depth"),
}
VERBS = vocabulary(
    "separated spaced positioned placed located situated rises must corresponds correspond "
    "translates equates amounts is are was were be been being has have had having measures "
    "measure measured stands stood spans span spanned reaches reach reached equals equal seems "
    "seem appears appear looks look comes come would could should might may will does do did "
    "gives give yields yield makes make get gets exists exist sits sit lies lie rests rest "
    "hangs exhibits estimate estimated shows estimates separates separate calculated computed "
    "determined : = ≈ ~ it's that's there's they're he's she's isn't aren't wasn't weren't "
    "doesn't don't didn't can't cannot couldn't wouldn't won't shouldn't hasn't haven't what's "
    "here's → remains remain turns works i'd i'll measuring standing"
)
NEGATIONS = vocabulary(
    "not no never neither nor cannot hardly rather instead wrong incorrect false unlikely doubt "
    "impossible isn't aren't wasn't weren't doesn't don't didn't can't couldn't wouldn't won't "
    "shouldn't hasn't haven't disagree exclude excluding"
)
#: Words that make the number before them wrong: "12 cm would be too much".
DENIALS = vocabulary(
    "wrong incorrect false unlikely impossible not isn't wasn't too implausible unrealistic"
)
PARTS = vocabulary(
    "half third thirds quarter quarters fifth tenth twice double triple times thrice percent % "
    "fraction multiple one-third two-thirds multiplied divided doubled halved"
)
BOUNDS = vocabulary(
    "maximum minimum max min exceed exceeds exceeding exceeded within limit limited least most "
    "smallest largest < > ≤ ≥ upwards beyond past lower upper"
)
#: Bounds only directly before a number: elsewhere they say where something is.
NEAR_BOUNDS = vocabulary("under over below above than to inside beneath")
BOUNDS_AFTER = vocabulary(
    "or-more or-less or-taller at-most at-least max maximum minimum tops plus"
)
#: Where an object is, not how large: "mounted at a height of 2 m".
MOUNTED = vocabulary(
    "mounted hangs hanging hung placed located positioned situated suspended attached fixed "
    "installed floats flies"
)
#: Words that give a number to more or less than the object.
JOINTLY = vocabulary("plus without together combined excluding")
IFS = vocabulary(
    "will formerly previously originally need needs needed required if suppose supposing "
    "keep leave allow maintain ensure "
    "assuming assume imagine unless whether assumed hypothetically"
)
GENERIC = vocabulary(
    "typical typically average usual usually standard generally normally commonly common often "
    "ordinary tend tends generic traditional traditionally classic conventional regular normal "
    "recommend recommends recommended"
)
COMPONENTS = vocabulary(
    "horizontally vertically laterally horizontal vertical lateral sideways forward backward "
    "axis direction x-axis y-axis z-axis dx dy dz x y z left right behind front higher "
    "lower ahead north south east west leftward rightward"
)
HEDGES = vocabulary(
    "itself i'm we're estimating free empty open clear "
    "about around approximately approx roughly nearly almost close some circa ca est likely "
    "probably maybe perhaps possibly apparently seemingly exactly precisely just only even "
    "quite very still also too well overall visually i we you my our your think believe say "
    "guess put conclude infer see find found judge judging call ≈ ~ etwa ungefähr environ "
    "aproximadamente unos unas cerca de 约 大约 大概 约为 "
    "okay ok sure certainly based boxed now there "
    "here please go sqrt both each combined respectively per all fairly relatively somewhere "
    "anywhere something like let me us as yes can though however"
)
PREPOSITIONS = vocabulary("of at to with for as by from in between into versus vs than off")
PLACES = vocabulary(
    "on under above below over beneath underneath behind beside near next against inside onto upon "
    "atop along toward towards front left right top bottom around outside holding containing "
    "opposite alongside nearby"
)
DETERMINERS = vocabulary(
    "the a an this that these those its their his her another every any one some which's same"
)
PRONOUNS = vocabulary("it they them he she this that these those it's they're that's he's she's")
RELATIVES = vocabulary("which that who whose")
#: Words that open a clause inside a sentence.
BREAKS = vocabulary(
    "but while whereas although though so then thus therefore hence because since where when "
    "compared relative given considering making giving yet unlike versus vs if assuming suppose "
    "rather instead meaning which"
)
CONCLUSIONS = vocabulary(
    "thus therefore hence so finally final answer conclusion overall summary total boxed conclude "
    "result actually correction altogether making giving means sorry wait"
)
CAMERA = vocabulary("camera viewer observer lens viewpoint photographer robot sensor me you us")
#: Nouns that name no object.
NAMELESS = vocabulary(
    "image picture photo photograph scene view frame estimate estimation answer result value "
    "measurement guess approximation calculation proportion proportions context comparison object "
    "objects item items thing things perspective information details furniture piece total number "
    "figure center centre centers centres middle midpoint reference question analysis cues "
    "appearance count counts line direct euclidean one ones two both other map data "
    "reasoning step steps point points conclusion summary explanation note unit "
    "units meter meters order actual real true small slight narrow exact apparent physical "
    "rough tiny visible correct final approximate"
)
SURFACES = vocabulary("edge edges surface surfaces side sides edge-to-edge surface-to-surface")
RELATIVE_WORDS = frozenset(RELATION_WORDS) | vocabulary("more less deeper thicker fewer")
