"""What a labelled thing may be called, by plain English and not by the builder's table.

`NAMES` holds what a thing certainly is, `CLOSE` what somebody could also call it: a name of either
set must not be denied while the thing is in view, and a count must agree with the one or the other.
A plural label is a group: it has no number, and no size of one member.
"""

from __future__ import annotations

#: A thing of the size of a printer whose label says nothing: it could be any of these.
UNKNOWN = "a thing without a label"

NAMES: dict[str, tuple[str, ...]] = {
    "desk": ("desk",),
    "monitor": ("monitor", "computer monitor"),
    "office chair": ("office chair", "chair"),
    "bookshelf": ("bookshelf", "bookcase", "shelf"),
    "trash can": ("trash can", "trash bin", "bin"),
    "cabinet": ("cabinet",),
    "printer": ("printer",),
    "backpack": ("backpack",),
    "bed": ("bed",),
    "pillow": ("pillow",),
    "nightstand": ("nightstand", "bedside table"),
    "lamp": ("lamp",),
    "wardrobe": ("wardrobe",),
    "chair": ("chair",),
    "suitcase": ("suitcase",),
    "couch": ("couch", "sofa"),
    "coffee table": ("coffee table", "table"),
    "tv stand": ("tv stand",),
    "tv": ("tv", "television"),
    "armchair": ("armchair",),
    "vase": ("vase",),
    "basket": ("basket",),
    "refrigerator": ("refrigerator", "fridge"),
    "kitchen cabinet": ("kitchen cabinet", "cabinet"),
    "microwave": ("microwave", "microwave oven"),
    "kettle": ("kettle",),
    "table": ("table",),
    "stool": ("stool",),
    "tissue box": ("tissue box", "box of tissues"),
    "hair dryer": ("hair dryer", "blow dryer"),
    "toilet seat": ("toilet seat",),
    "projector screen": ("projector screen", "projection screen"),
    "books": ("books",),
    "boxes": ("boxes",),
    "cabinets": ("cabinets",),
    "curtains": ("curtains",),
    UNKNOWN: (),
}

CLOSE: dict[str, tuple[str, ...]] = {
    UNKNOWN: ("printer", "microwave", "box", "basket", "suitcase", "backpack", "bag", "speaker"),
    "desk": ("table", "workbench"),
    "monitor": ("tv", "television", "screen"),
    "office chair": ("swivel chair", "armchair", "stool"),
    "bookshelf": ("rack",),
    "trash can": ("recycling bin", "bucket", "wastebasket", "garbage bin"),
    "cabinet": ("cupboard", "file cabinet", "filing cabinet", "wardrobe", "kitchen cabinet"),
    "printer": ("copier", "photocopier", "scanner"),
    "backpack": ("bag",),
    "pillow": ("cushion",),
    "nightstand": ("table", "cabinet", "end table", "side table"),
    "lamp": ("light", "table lamp", "desk lamp"),
    "wardrobe": ("closet", "cabinet", "cupboard", "armoire"),
    "chair": ("stool", "armchair", "office chair", "seat"),
    "suitcase": ("bag", "luggage"),
    "couch": ("armchair", "bench", "loveseat"),
    "coffee table": ("desk", "side table", "end table"),
    "tv stand": ("cabinet", "table"),
    "tv": ("monitor", "screen", "computer monitor"),
    "armchair": ("chair", "sofa", "couch", "sofa chair"),
    "vase": ("pot", "flower pot"),
    "basket": ("laundry basket",),
    "kitchen cabinet": ("cupboard", "counter", "kitchen counter", "wardrobe"),
    "table": ("desk", "dining table", "coffee table"),
    "stool": ("chair", "ottoman", "side table"),
    "microwave": ("oven",),
    "tissue box": ("box", "tissues", "tissue"),
    "toilet seat": ("toilet",),
    "projector screen": ("screen", "whiteboard", "projector"),
    "books": ("book",),
    "boxes": ("box", "cardboard box"),
    "cabinets": ("cabinet", "cupboard", "kitchen cabinet", "wardrobe"),
    "curtains": ("curtain", "drapes", "shower curtain", "blinds"),
}  # fmt: skip

GROUPS = frozenset({"books", "boxes", "cabinets", "curtains"})

#: A colour's name in a question -> colours of `solids` that it fits.
COLOUR_WORDS: dict[str, tuple[str, ...]] = {
    "red": ("red",),
    "green": ("green",),
    "blue": ("blue",),
    "navy blue": ("blue",),
    "yellow": ("yellow",),
    "white": ("white",),
    "black": ("black",),
    "gray": ("gray",),
    "grey": ("gray",),
    "brown": ("brown",),
    "orange": ("orange",),
    "pink": ("pink",),
    "purple": ("purple",),
    "dark": ("black", "brown"),
    "light": ("white",),
    "wooden": ("brown",),
}


def singular(word: str) -> str:
    """The singular of a plural of this vocabulary ("boxes" -> "box"), or the word itself."""
    for plural, single in (
        ("shelves", "shelf"),
        ("couches", "couch"),
        ("boxes", "box"),
        ("switches", "switch"),
        ("benches", "bench"),
        ("toothbrushes", "toothbrush"),
    ):
        if word.endswith(plural):
            return word[: -len(plural)] + single
    return word[:-1] if word.endswith("s") and not word.endswith(("ss", "us")) else word


def certain(label: str) -> set[str]:
    """What a thing with this label is."""
    return set(NAMES.get(label, (label,)))


def possible(label: str) -> set[str]:
    """What a thing with this label could be called, `certain` included; groups in the singular."""
    names = certain(label) | set(CLOSE.get(label, ()))
    return names | {singular(name) for name in names if label in GROUPS}
