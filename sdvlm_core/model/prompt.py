"""Question -> token ids: prompt templates, the position of the image, and limits of a question.

The ids have two parts. The prefix (beginning of sequence, the template's opening, the image tokens)
is the same for every question about a frame, so its key/value cache is kept; the question follows.
Each part is tokenised separately, as LLaVA does around `<image>`.
Does not know models or frames, and imports no tokenizer: functions take one as an argument.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from sdvlm_core.errors import CheckpointError, QueryError

MAX_QUESTION_CHARS = 2000
IMAGE_MARK = "<image>"


class Tokenizer(Protocol):
    """The part of a transformers tokenizer that prompts and answers need."""

    bos_token_id: int | None
    eos_token_id: int

    def __len__(self) -> int: ...

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]: ...

    def decode(self, ids: list[int], *, skip_special_tokens: bool = False) -> str: ...


@dataclass(frozen=True)
class Template:
    """Text before the image, between image and question, and after the question.

    An answer ends at the end-of-sequence token or before `stop`; "" = no such string.
    """

    before: str
    between: str
    after: str
    stop: str = ""


TEMPLATES: dict[str, Template] = {
    # The prompt of SD-VLM's released evaluation, and of nano's training.
    "raw": Template("", "\n", ""),
    # The prompt of the training of LLaVA-1.5 and SD-VLM.
    "vicuna_v1": Template(
        "A chat between a curious user and an artificial intelligence assistant. The assistant "
        "gives helpful, detailed, and polite answers to the user's questions. USER: ",
        "\n",
        " ASSISTANT:",
        stop="USER:",
    ),
}


def template(name: str) -> Template:
    """A template by name; an unknown name raises CheckpointError."""
    if name not in TEMPLATES:
        raise CheckpointError(f"prompt template must be one of {sorted(TEMPLATES)}, got {name!r}")
    return TEMPLATES[name]


def check_question(text: str) -> str:
    """The question, stripped; raises QueryError when it is empty, too long, or holds `<image>`."""
    question = text.strip()
    if not question:
        raise QueryError("the question is empty; ask for example 'How tall is the red mug?'")
    if len(question) > MAX_QUESTION_CHARS:
        raise QueryError(
            f"the question has {len(question)} characters; at most {MAX_QUESTION_CHARS} are allowed"
        )
    if IMAGE_MARK in question:
        raise QueryError(
            f"the question must not contain {IMAGE_MARK}: the template places the image"
        )
    return question


def prefix_ids(tokenizer: Tokenizer, form: Template, image_id: int, image_tokens: int) -> list[int]:
    """Ids that all questions about a frame share: start, opening text, image placeholders."""
    start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    opening = tokenizer.encode(form.before, add_special_tokens=False) if form.before else []
    return [*start, *opening, *([image_id] * image_tokens)]


def question_ids(tokenizer: Tokenizer, form: Template, question: str) -> list[int]:
    """Ids of one question; they follow the prefix."""
    return tokenizer.encode(form.between + question + form.after, add_special_tokens=False)
