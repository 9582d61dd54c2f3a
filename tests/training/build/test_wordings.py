"""nano is tested in words that it was not trained on, and trained on every form of a question."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from sdvlm_core.answer import Asked, Quantity
from sdvlm_core.language.question import RELATIONS, Dialect, parse, parse_each, phrase
from sdvlm_core.model.checkpoint import load as load_checkpoint
from sdvlm_core.model.prompt import TEMPLATES
from tests.training.build.test_questions import PIXELS, scene_graph
from training.build.phrasing import UNITS, Style
from training.build.questions import MORE_TYPES, TYPES, Question, ask_all, make_view
from training.build.wordings import HELD_OUT, REFUSAL, TRAINED
from training.nano.architecture import PROMPT
from training.simulate.catalogue import CATEGORIES, COLOURS

ALL_TYPES = (*TYPES, *MORE_TYPES)
_POLITE = frozenset(("please", "hello", "hi", "hey"))


def normalised(template: str) -> str:
    """A template without case, marks, polite words and unit: what is left is its phrasing."""
    words = re.findall(r"[{}\w']+", template.lower())
    return " ".join(word for word in words if word not in _POLITE)


def phrasings(style: Style) -> set[str]:
    assert style.beyond is not None
    kinds = {kind: style.ask[kind] for kind in style.ask if kind not in ("which", "which of three")}
    asked = {normalised(template) for templates in kinds.values() for template in templates}
    return asked | {normalised(question) for question in style.beyond.questions}


def drawn(seed: int, style: Style, number: int = 3) -> list[Question]:
    objects = scene_graph(seed)
    for one in objects:
        one["gaps_m"] = {str(o["instance"]): 0.37 for o in objects if o is not one}
    view = make_view(objects, PIXELS, list(COLOURS), CATEGORIES)
    rng = np.random.default_rng(seed)
    return ask_all(view, rng, dict.fromkeys(ALL_TYPES, number), style=style)


def test_no_phrasing_of_the_test_is_in_the_training():
    trained, held_out = phrasings(TRAINED), phrasings(HELD_OUT)
    assert len(trained) > 600
    assert len(held_out) > 150
    assert not trained & held_out


def test_units_things_and_refused_questions_are_held_out_too():
    one, other = TRAINED.beyond, HELD_OUT.beyond
    assert one is not None
    assert other is not None
    for names in ("things", "questions", "units"):
        parts = [{normalised(text) for text in getattr(beyond, names)} for beyond in (one, other)]
        assert parts[1]
        assert not parts[0] & parts[1]
    assert not {*one.things, *other.things} & {*CATEGORIES}


def canonical() -> list[str]:
    """The words in which typed questions are asked, with the placeholders of templates."""
    one = (Quantity.HEIGHT, Quantity.WIDTH, Quantity.LENGTH, Quantity.SIZE)
    one += (Quantity.CAMERA_DISTANCE, Quantity.POSITION)
    found = [phrase(Asked(quantity, ("{name}",))) for quantity in one]
    found.append(phrase(Asked(Quantity.COUNT, ("{things}",))))
    found += [phrase(Asked(kind, ("{a}", "{b}"))) for kind in (Quantity.DISTANCE, Quantity.GAP)]
    return found


@pytest.mark.parametrize("words", canonical())
def test_the_words_of_a_typed_question_are_trained(words):
    assert normalised(words) in phrasings(TRAINED)


def test_every_relation_of_a_typed_question_is_trained():
    ask = TRAINED.ask
    wordings = [words for forms in TRAINED.relations.values() for words, _ in forms]
    known = {one.replace("{relation}", words) for one in ask["relation"] for words in wordings}
    known |= {one for kinds in TRAINED.which.values() for kind, _ in kinds for one in ask[kind]}
    for kind in ("whether", "compare two", "compare several", "difference"):
        known |= {one.replace("{word}", word) for one in ask[kind] for word in TRAINED.more}
    for relation, which in product(RELATIONS, (True, False)):
        words = phrase(Asked(Quantity.COMPARISON, ("{a}", "{b}"), relation, which))
        assert words in known
    for relation in TRAINED.more.keys() & RELATIONS.keys():
        assert phrase(Asked(Quantity.DIFFERENCE, ("{a}", "{b}"), relation)) in known
        several = Asked(Quantity.COMPARISON, ("{a}", "{b}", "{c}"), relation, which=True)
        assert phrase(several) in known


@pytest.mark.parametrize("style", [TRAINED, HELD_OUT], ids=lambda style: style.name)
def test_every_type_is_asked_and_an_answer_is_in_the_unit_that_is_asked_for(style):
    kinds, units = dict.fromkeys(ALL_TYPES, 0), 0
    for seed in range(60):
        for question in drawn(seed, style):
            kinds[question.type] += 1
            words = re.split(r"[\s.,?()]+", question.question.lower())
            wanted = [u.name for u in UNITS if u.name in words and u.name != "what"]
            numeric = question.type in ("scale_estimation", "gap", "camera_distance", "difference")
            if numeric and wanted:
                assert set(re.findall(r"[a-z]{2,}|m", question.answer)) <= {*wanted, "x"}, question
                units += 1
    assert min(kinds.values()) > 50
    assert units > 60


def test_the_test_asks_in_lower_case_and_in_capitals():
    questions = [q.question for seed in range(40) for q in drawn(seed, HELD_OUT)]
    assert sum(q == q.upper() and len(q) > 10 for q in questions) > 10
    assert sum(q == q.lower() for q in questions) > 50


@pytest.mark.parametrize("style", [TRAINED, HELD_OUT], ids=lambda style: style.name)
def test_an_unknown_thing_is_absent_and_an_unanswerable_question_is_refused(style):
    assert style.beyond is not None
    questions = [q for seed in range(60) for q in drawn(seed, style)]
    unknown = [q for q in questions if q.reference == "absent" and not {*q.names} & _known()]
    assert len(unknown) > 10
    assert {question.answer for question in unknown} <= {
        "There is no such object in the image.",  # it would misspell the name
        *(f"There is no {name} in the image." for name in CATEGORIES),
    }
    refused = [q for q in questions if q.type == "off_domain"]
    assert refused
    assert all(q.answer == REFUSAL for q in refused)


def _known() -> set[str]:
    return {f"{colour} {category}" for colour in COLOURS for category in CATEGORIES}


@pytest.mark.parametrize("style", [TRAINED, HELD_OUT], ids=lambda style: style.name)
def test_what_the_words_ask_is_understood_or_left_free_and_never_mistaken(style):
    asked = [q for seed in range(40) for q in drawn(seed, style, 2) if q.asked]
    understood = 0
    for question in asked:
        found = [_without_words(one) for one in parse_each(question.question)]
        if found:
            assert found == [_without_words(one) for one in question.asked], question
            understood += 1
    assert understood > 0.9 * len(asked)


def _without_words(asked: Asked) -> Asked:
    """What is asked, without the words of a stated fact and the spelling of the unit."""
    names = tuple(name.lower() for name in asked.objects)
    return replace(asked, objects=names, unit="", reference="")


def test_nano_s_tokenizer_spells_every_question_and_answer():
    tokenizer = load_checkpoint("nano", "cpu").tokenizer
    form = TEMPLATES[PROMPT]
    for style in (TRAINED, HELD_OUT):
        for question in (q for seed in range(20) for q in drawn(seed, style)):
            for text in (form.around(question.question), question.answer):
                ids = tokenizer.encode(text, add_special_tokens=False)
                assert tokenizer.decode(ids) == text
                assert tokenizer.unk_token_id not in ids


def test_most_questions_are_trained_in_the_template_that_an_understood_question_is_put_in():
    """But "Which is the tallest", whose template is that of "compare several"."""
    filled = {
        "name": "red mug", "a": "red mug", "b": "blue box", "c": "lamp", "a_name": "a red mug",
        "at": "(0.31, 0.62)", "things": "mugs", "relation": "to the left of", "word": "taller",
        "fact": "The height of the lamp is 0.3 m", "what": "height", "given": "height", "va": "1 m",
    }  # fmt: skip
    understood = set()
    for kind, templates in TRAINED.ask.items():
        question = templates[0].format(**filled)
        asked = parse(question)
        if kind in ("which of three", "compare three") or asked.quantity is Quantity.FREE:
            continue
        understood.add(kind)
        assert phrase(asked, Dialect.TEMPLATES) == question
        assert templates.count(templates[0]) >= 0.5 * len(templates)
    assert len(understood) >= 20
    assert TRAINED.ask.keys() - understood <= {
        "object",
        "refer three",
        "which of three",
        "compare three",
    }
