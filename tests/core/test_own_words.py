"""In which words a model is asked: the caller's, or the template of the question that they mean."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sdvlm_core.answer import Asked, Quantity
from sdvlm_core.engine import LoadOptions, SpatialEngine, load_engine
from sdvlm_core.language.question import Dialect
from sdvlm_core.model.generation_options import GenerationOptions
from sdvlm_core.session import FrameSession
from tests.tiny_checkpoint import noise_frame, write_tiny_checkpoint

UNDERSTOOD = {
    "Could you please tell me how tall the red mug is? Answer in cm.": Asked(
        Quantity.HEIGHT, ("red mug",), unit="cm"
    ),
    "Tell me which is bigger: the mug or the box.": Asked(
        Quantity.COMPARISON, ("mug", "box"), "larger", which=True
    ),
    "How far is it from one end of the box to the other?": Asked(Quantity.FREE),
}
SHORT = GenerationOptions(max_new_tokens=12, constrained=False)


@pytest.fixture(scope="module")
def engine(tmp_path_factory) -> SpatialEngine:
    directory = write_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))
    return load_engine(LoadOptions(str(directory), device="cpu"))


def session(engine: SpatialEngine, dialect: Dialect) -> FrameSession:
    return SpatialEngine(replace(engine.checkpoint, dialect=dialect)).open(noise_frame())


@pytest.mark.parametrize(("words", "asked"), UNDERSTOOD.items())
def test_a_model_of_templates_is_asked_what_is_understood_as_the_typed_question(
    engine, words, asked
):
    asking = session(engine, Dialect.TEMPLATES)
    answer = asking.ask(words, SHORT)
    assert (answer.question, answer.asked) == (words, asked)
    if asked.quantity is Quantity.FREE:
        assert answer.text == session(engine, Dialect.MSMU).ask(words, SHORT).text
    else:
        typed = asking.ask(asked, SHORT)
        assert (answer.text, answer.measurements) == (typed.text, typed.measurements)


def test_every_other_model_is_asked_in_the_words_of_the_caller(engine):
    words, asked = next(iter(UNDERSTOOD.items()))
    for dialect in (Dialect.MSMU, Dialect.CHAT):
        asking = session(engine, dialect)
        assert asking.ask(words, SHORT).text != asking.ask(asked, SHORT).text
