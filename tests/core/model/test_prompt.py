"""Questions are checked and laid out around the image."""

import pytest

from sdvlm_core.errors import CheckpointError, QueryError
from sdvlm_core.model.prompt import (
    MAX_QUESTION_CHARS,
    MIN_ANSWER_ROOM,
    TEMPLATES,
    answer_limit,
    check_question,
    prefix_ids,
    question_ids,
    template,
)


class _Letters:
    """A tokenizer of one id per character."""

    bos_token_id = 1
    unk_token_id = None
    all_special_ids = (1,)

    def encode(
        self, text: str, *, add_special_tokens: bool, split_special_tokens: bool = False
    ) -> list[int]:
        assert not add_special_tokens
        return [ord(letter) for letter in text]


@pytest.mark.parametrize("text", ["", "  \n", "x" * (MAX_QUESTION_CHARS + 1), "a\udcff?"])
def test_invalid_questions_are_refused(text):
    with pytest.raises(QueryError):
        check_question(text)


def test_surrounding_space_of_a_question_is_removed():
    assert check_question("  How tall is it?\n") == "How tall is it?"


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_prefix_and_question_hold_the_whole_prompt_with_the_image_in_its_place(name):
    form = template(name)
    ids = prefix_ids(_Letters(), form, image_id=-7, pieces=[3])
    ids += question_ids(_Letters(), form, "Why?")
    started = 0 if form.starts_itself else 1
    text = "".join("#" if i == -7 else chr(i) for i in ids[started:])
    assert ids[:started] == [1] * started
    asked = "why?" if form.lower_case else "Why?"
    assert text == f"{form.before}###{form.between}{asked}{form.after}{form.closing}"


def test_the_text_of_an_image_stands_around_its_tokens():
    ids = prefix_ids(_Letters(), template("raw"), -7, ["<a>", 2, "<b>", 1, "<c>"])
    assert "".join("#" if i == -7 else chr(i) for i in ids[1:]) == "<a>##<b>#<c>"


def test_a_template_in_lower_case_gives_the_same_ids_in_any_case():
    form = template("raw_lower")
    ids = question_ids(_Letters(), form, "How tall is the red mug?")
    assert ids == question_ids(_Letters(), form, "HOW TALL IS THE RED MUG?")
    assert ids != question_ids(_Letters(), template("raw"), "How tall is the red mug?")


def test_an_unknown_template_is_refused_with_the_known_ones():
    with pytest.raises(CheckpointError, match="vicuna_v1"):
        template("alpaca")


class PanicException(BaseException):
    """As pyo3 names the panic of a library written in Rust."""


@pytest.mark.parametrize("failure", [PanicException("index out of bounds"), Exception("no <unk>")])
def test_a_tokenizer_that_fails_on_a_question_refuses_it(failure):
    class Failing(_Letters):
        def encode(self, text: str, **_: bool) -> list[int]:
            raise failure

    with pytest.raises(QueryError, match=str(failure)):
        question_ids(Failing(), template("raw"), "Why?")


def test_an_interrupt_in_the_tokenizer_is_not_a_refused_question():
    class Interrupted(_Letters):
        def encode(self, text: str, **_: bool) -> list[int]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        question_ids(Interrupted(), template("raw"), "Why?")


def test_a_question_whose_text_becomes_a_control_token_is_refused():
    with pytest.raises(QueryError, match="control token"):
        question_ids(_Letters(), template("raw"), "a\x01b")
    with pytest.raises(QueryError, match="control token"):
        question_ids(_Letters(), template("raw"), "a*b", image_id=ord("*"))


def test_an_answer_is_cut_at_the_end_of_the_context():
    assert answer_limit(600, 100, wanted=256, context=None) == 256
    assert answer_limit(600, 100, wanted=256, context=4096) == 256
    assert answer_limit(600, 100, wanted=4096, context=1000) == 300


def test_a_question_without_room_for_its_answer_is_refused_with_both_numbers():
    room = 1000 - 600 - MIN_ANSWER_ROOM
    answer_limit(600, room, wanted=4096, context=1000)
    with pytest.raises(QueryError, match=f"has {room + 1} tokens; at most {room} are allowed"):
        answer_limit(600, room + 1, wanted=4096, context=1000)
    with pytest.raises(QueryError, match="at most 390 are allowed"):
        answer_limit(600, 391, wanted=10, context=1000)
