"""Questions are checked and laid out around the image."""

import pytest

from sdvlm_core.errors import CheckpointError, QueryError
from sdvlm_core.model.prompt import (
    MAX_QUESTION_CHARS,
    TEMPLATES,
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
    ids = prefix_ids(_Letters(), form, image_id=-7, image_tokens=3)
    ids += question_ids(_Letters(), form, "Why?")
    text = "".join("#" if i == -7 else chr(i) for i in ids[1:])
    assert ids[0] == 1
    assert text == f"{form.before}###{form.between}Why?{form.after}"


def test_an_unknown_template_is_refused_with_the_known_ones():
    with pytest.raises(CheckpointError, match="vicuna_v1"):
        template("alpaca")
