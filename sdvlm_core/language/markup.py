"""Markup -> plain lines: markdown, tables, LaTeX, JSON and tags that models write answers in.

A table cell and a JSON value become a line "mug height: 10 cm", so that the grammar of sentences
reads them too. `\\boxed{...}` and `<answer>` become the word "boxed". Every rule is one pass of a
regular expression without nested repetition; the time is linear. Does not know what a line means.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml

from sdvlm_core.language.tokens import vocabulary
from sdvlm_core.language.units import UNITS
from sdvlm_core.language.words import NOUNS

#: The word that stands for the frame of a final answer.
BOXED = "boxed"

#: "red box:" with "  height: 24 cm" below it, or "- name: red box".
_NESTED = re.compile(
    r"^[\w \t-]{1,60}:[ \t]{0,8}\n[ \t]{1,16}(?:- )?[\w ]{1,40}:[ \t]"
    r"|^[ \t]{0,8}- [\w ]{1,40}:[ \t][^\n]{0,200}\n[ \t]{2,16}[\w ]{1,40}:[ \t]",
    re.M,
)
_FENCED = re.compile(r"```(?:ya?ml)?\n(.{1,4000}?)```", re.S)
_MAX_YAML, _MAX_BRACKETS = 4000, 100
_OPENS = re.compile(r"\[\s{0,50}\{|\{")
#: The comma of a value that was read before, as a box is.
_LEFT_OUT = re.compile(r"(?<=[{\[])\s{0,1000},|,(?=\s{0,1000}[,}\]])")
_COMMENT = re.compile(r"(?<![:\w])//[^\n\"]{0,200}$", re.M)
_MAX_JSON, _MAX_DEPTH, _MAX_VALUES = 3, 6, 200
_TEX = (
    (r"\\boxed\s*\{", f" {BOXED} {{"),
    (r"\\[dt]?frac\s*\{([^{}]{1,20})\}\s*\{([^{}]{1,20})\}", r" \1/\2 "),
    (r"\\SI\s*\{([^{}]{1,20})\}\s*\{\\?([^{}]{1,20})\}", r" \1 \2 "),
    (r"\\(?:text\w*|math\w*|operatorname|unit|mbox)\s*\{", " {"),
    (r"\\times\b", " \u00d7 "),
    (r"\\cdot\b", " · "),
    (r"\\(?:approx|sim|simeq)\b", " ≈ "),
    (r"\\pm\b", " ± "),
    (r"\\(?:leq?|leqslant)\b", " ≤ "),
    (r"\\(?:geq?|geqslant)\b", " ≥ "),
    (r"\\(?:rightarrow|Rightarrow|to|implies|therefore)\b", " so "),
    (r"\\%", "%"),
    (r"\\[a-zA-Z]{1,20}", " "),
    (r"\\\\", "\n"),
    (r"\\[,;:! ()\[\]]", " "),
    (r"[{}$]", " "),
)
_THOUGHT = re.compile(r"</think(?:ing)?>|\u25c1/think\u25b7")
_THINKING = re.compile(r"<think(?:ing)?>|\u25c1think\u25b7")
_TEX_RULES = [(re.compile(pattern), new) for pattern, new in _TEX]
_MARKDOWN = [
    (re.compile(pattern, re.M), new)
    for pattern, new in (
        (r"(?<=[A-Za-z])\u2019(?=[A-Za-z])", "'"),
        (r"<answer>", f" {BOXED} "),
        (r"\([ ]?(\u00b1|\+/-|\+-)([^()\n]{1,20})\)", r"\1 \2"),
        (r"<[a-zA-Z/|][^<>\n]{0,200}>", " "),
        (r"```\w{0,10}", "\n"),
        (r"`|\*\*|__|~~", ""),
        (r"^[ \t]{0,8}[-*+\u2022\u2013\u25aa\u25cf][ \t]{1,4}(?=\S)", ""),
        (r"^[ \t]{0,8}#{1,6}[ \t]{1,4}([^\d\n:]{1,80}?)[ \t:]{0,4}$", r"\1:"),
        (r"^[ \t]{0,8}(?:#{1,6}|>)[ \t]{1,4}(?![\d.])", ""),
        (r"(?<![\w)\d.\s])\*(?=\S)|(?<=\S)\*(?![\w(.\d\s])|^\*(?=\S)|(?<=\s)\*(?=[A-Za-z\d])", ""),
        # "6 ft. 8 in. tall": the point of an abbreviation ends no sentence
        (r"\b(ft|in|cm|mm|yd|approx|ca|est|vs|min|max)\.(?=[ ,]{0,2}[a-z0-9(])", r"\1"),
        (r"\b(\w{1,30})_(m|cm|mm|in|ft)[ ]{0,2}[:=][ ]{0,2}(-?\d[\d.]{0,12})\b", r"\1: \3 \2"),
        # "Height (cm): 75"
        (
            r"[(\[](?:in )?(cm|mm|m|ft|in|inches|feet|meters|metres|centimeters)[)\]]"
            r"[ ]{0,2}[:=|][ ]{0,2}(-?\d[\d.]{0,12})(?![\d.]{0,12} ?[a-zA-Z%])",
            r": \2 \1",
        ),
        (r"[ \t]{1,4}[\u2014][ \t]{1,4}|\u2014|[ ]--[ ]", " ; "),
    )
]
_ROW = re.compile(r"^[ \t]{0,8}\|?[^|\n]{0,200}\|[^\n]{0,1000}$")
_RULE = re.compile(r"^[ \t|:+-]{3,}$")
_FACTOR = r"(\d[\d.]{0,12}) ?(cm|mm|m|in|ft|\")? ?"
_SIDE = r"\(?(W|H|L|D|width|height|length|depth|wide|high|tall|long|deep)\)?(?![A-Za-z])"
_TIMES = r" ?(?:[x\u00d7*,]|by) ?"
#: "30 cm (W) x 20 cm (H) x 50 cm (D)" and "W 30 x H 20 x D 50 cm" -> "30 x 20 x 50 cm (W x H x D)".
_SIDES_AFTER = re.compile(
    _TIMES.join([_FACTOR + _SIDE] * 3) + r"( ?(?:cm|mm|m|in|ft))?(?![A-Za-z])", re.I
)
_SIDES_BEFORE = re.compile(
    r"(?<![A-Za-z])" + r" ?(?:[x\u00d7*,;]|by)? ?".join([r"(W|H|L|D) ?[:=]? ?" + _FACTOR] * 3), re.I
)
#: Words of a column or a key that say nothing about its values.
_GENERIC = vocabulary(
    "value values measurement measurements estimate estimates estimated result results answer "
    "dimension dimensions final output object objects items name label item property attribute "
    "data response approximate approx count number quantity qty"
)


def plain_lines(text: str) -> str:
    """The text without markup; its lines are sentences or pairs "key: value". Linear time."""
    text = _THOUGHT.split(text)[-1]
    text = _THINKING.split(text)[0]  # it ends in its reasoning
    text = _without_json(_without_yaml(text))
    if "|" in text:
        text = "\n".join(_lines(text.split("\n")))
    for rule, new in _MARKDOWN:
        text = rule.sub(new, text)
    text = _SIDES_AFTER.sub(_sides_after, text)
    text = _SIDES_BEFORE.sub(_sides_before, text)
    if "\\" in text or "$" in text:
        for rule, new in _TEX_RULES:
            text = rule.sub(new, text)
    return text


def _sides_after(match: re.Match[str]) -> str:
    n1, u1, a, n2, u2, b, n3, u3, c, unit = match.groups()
    return _product((n1, n2, n3), (u1, u2, u3 or unit), (a, b, c))


def _sides_before(match: re.Match[str]) -> str:
    a, n1, u1, b, n2, u2, c, n3, u3 = match.groups()
    return _product((n1, n2, n3), (u1, u2, u3), (a, b, c))


def _product(
    numbers: tuple[str, ...], units: tuple[str | None, ...], sides: tuple[str, ...]
) -> str:
    factors = (f"{n} {u or ''}".strip() for n, u in zip(numbers, units, strict=True))
    return f"{' x '.join(factors)} ({' x '.join(sides)}) "


def _lines(lines: list[str]) -> Iterator[str]:
    """The lines; the rows of tables as pairs of key and value."""
    table: list[list[str]] = []
    for line in (*lines, ""):
        if _ROW.match(line) or (_RULE.match(line) and table):
            table.append([cell.strip() for cell in line.strip().strip("|").split("|")])
            continue
        yield from _table(table)
        table = []
        yield line


def _table(rows: list[list[str]]) -> Iterator[str]:
    ruled = len(rows) > 1 and all(_RULE.match(cell + "---") for cell in rows[1])
    header, body = (rows[0], rows[2:]) if ruled else ([], rows)
    for row in body:
        if len(row) < 2:
            yield row[0]
            continue
        names = [*header, *[""] * len(row)][: len(row)]
        unit = next(
            (c for c, n in zip(row, names, strict=True) if n.lower() in ("unit", "units")), ""
        )
        for name, cell in zip(names[1:], row[1:], strict=True):
            if name.lower() not in ("unit", "units"):
                bare = re.fullmatch(r"[\d.,]{1,20}", cell)
                side_first = row[0].lower() in NOUNS  # the columns are objects
                key = f"{name} {row[0]}" if side_first else f"{row[0]} {name}"
                yield f"{_key(key)}: {cell} {unit if bare else ''}"


def _key(name: str) -> str:
    """A key without words that say nothing."""
    words = [word for word in name.split() if word.lower().strip("()") not in _GENERIC]
    return " ".join(words)


def _without_yaml(text: str) -> str:
    """The text with a nested YAML document as lines "key: value"."""
    brackets = text.count("[") + text.count("{")  # PyYAML's time is quadratic in their depth
    if len(text) > _MAX_YAML or brackets > _MAX_BRACKETS or _NESTED.search(text) is None:
        return text
    fenced = _FENCED.search(text)
    document = fenced[1] if fenced else text
    try:
        value = _yaml_value(yaml.compose(document, Loader=yaml.SafeLoader), set(), 0)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError):
        return text
    lines = "\n".join([*_pairs(value, "", "", 0)][:_MAX_VALUES])
    return text.replace(document, f"\n{lines}\n", 1)


def _yaml_value(node: Any, seen: set[int], depth: int) -> Any:
    """The value of a node; scalars as they are written.

    Raises:
        ValueError: it is nested too deep, a key is there twice, or an alias expands it.
    """
    if depth > _MAX_DEPTH or id(node) in seen:
        raise ValueError("no plain document")
    if isinstance(node, yaml.CollectionNode):
        seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        value = {key.value: _yaml_value(inner, seen, depth + 1) for key, inner in node.value}
        if len(value) < len(node.value):
            raise ValueError("a key is there twice")
        return value
    if isinstance(node, yaml.SequenceNode):
        return [_yaml_value(inner, seen, depth + 1) for inner in node.value]
    return None if node is None else node.value


def _without_json(text: str) -> str:
    """The text with its JSON objects as lines "key: value"."""
    decoder = json.JSONDecoder()
    at, parts = 0, []
    if _OPENS.search(text):
        text = _LEFT_OUT.sub("", _COMMENT.sub("", text))
        if '"' not in text and "{'" in text:  # as Python writes it
            text = text.replace("'", '"')
    for _ in range(_MAX_JSON):
        if (found := _OPENS.search(text, at)) is None:
            break
        start = found.start()
        try:
            value, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            parts.append(text[at : found.end()])
            at = found.end()
            continue
        parts += [text[at:start], "\n", "\n".join([*_pairs(value, "", "", 0)][:_MAX_VALUES]), "\n"]
        at = end
    return "".join([*parts, text[at:]])


def _pairs(value: Any, key: str, unit: str, depth: int) -> Iterator[str]:
    if depth > _MAX_DEPTH or value is None:
        return
    if isinstance(value, dict):
        names = [
            str(value[k]) for k in ("object", "name", "label") if isinstance(value.get(k), str)
        ]
        unit = next((str(value[k]) for k in ("unit", "units") if k in value), unit)
        flat = {k.lower(): v for k, v in value.items() if isinstance(k, str)}
        if isinstance(flat.get("x"), (int, float)) and isinstance(flat.get("y"), (int, float)):
            yield f"{key}: x = {flat['x']}, y = {flat['y']}"
            return
        if {"min", "max"} <= flat.keys() <= {"min", "max", "unit", "units"}:
            yield from _pairs(f"{flat['min']} to {flat['max']} {unit}", key, "", depth + 1)
            return
        path = names[0] if names else key  # not "reference" or "objects" above a name
        for inner, item in value.items():
            if inner not in ("unit", "units", "object", "name", "label"):
                yield from _pairs(item, f"{path} {inner}", unit, depth + 1)
        return
    words = key.replace("_", " ").split()
    if words and words[-1].lower() in UNITS and not isinstance(value, (bool, str)):
        unit = words.pop()
        words = words[:-1] if words[-1:] == ["in"] else words
    name = _key(" ".join(words))
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for item in value[:_MAX_VALUES]:
            yield from _pairs(item, key, unit, depth + 1)
        return
    if isinstance(value, list):
        ranged = len(value) == 2 and "range" in name.lower().split()
        name = " ".join(word for word in name.split() if word.lower() != "range")
        yield f"{name}: {(' to ' if ranged else ' x ').join(map(str, value))} {unit}"
    elif isinstance(value, bool):
        yield f"{name}: {'yes' if value else 'no'}" if name else "yes" if value else "no"
    else:
        bare = not isinstance(value, str) or re.fullmatch(r"[\d.,]{1,20}", value)
        yield f"{name}{': ' if name else ''}{value} {unit if bare else ''}"
