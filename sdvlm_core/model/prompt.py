"""Question -> token ids: prompt templates, the position of the image, and limits of a question.

The ids have two parts. The prefix (beginning of sequence, the template's opening, the image tokens)
is the same for every question about a frame, so its key/value cache is kept; the question follows.
Each part is tokenised separately, as LLaVA does around `<image>`. A question is text: `<image>` or
`</s>` typed by a caller never becomes a control token.
Does not know models or frames, and imports no tokenizer: functions take one as an argument.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sdvlm_core.errors import CheckpointError, QueryError, library_guard, shown

#: The first bound of a question; the model's context is the second (`answer_limit`).
MAX_QUESTION_CHARS = 2000
#: Room in the model's context that every question must leave for its answer, tokens.
MIN_ANSWER_ROOM = 256


class Tokenizer(Protocol):
    """The part of a transformers tokenizer that prompts and answers need."""

    bos_token_id: int | None
    eos_token_id: int
    unk_token_id: int | None
    all_special_ids: Sequence[int]
    all_special_tokens: Sequence[str]

    def __len__(self) -> int: ...

    def encode(
        self, text: str, *, add_special_tokens: bool, split_special_tokens: bool = False
    ) -> list[int]: ...

    def decode(self, ids: list[int], *, skip_special_tokens: bool = False) -> str: ...


@dataclass(frozen=True)
class Template:
    """Text before the image, between image and question, and after the question.

    `before` and `closing` may hold control tokens; `between` and `after` are plain text, tokenised
    together with the question. An answer ends at an end token or before `stop`; "" = no such
    string. `lower_case`: the model was trained on questions in lower case only, and gets them so.
    `starts_itself`: the prompt begins with `before`, without the beginning-of-sequence token.

    For training: `lead` is the text between prompt and answer, `end` the token that ends an answer
    ("" = the tokenizer's end of sequence), and `again` the text between that token and a further
    question; it may hold control tokens.
    """

    before: str
    between: str
    after: str
    stop: str = ""
    lower_case: bool = False
    closing: str = ""
    starts_itself: bool = False
    lead: str = ""
    end: str = ""
    again: str = ""

    def words(self, question: str) -> str:
        """The question as the model gets it."""
        return question.lower() if self.lower_case else question

    def around(self, question: str) -> str:
        """The text that follows the image."""
        return self.between + self.words(question) + self.after


TEMPLATES: dict[str, Template] = {
    # The prompt of SD-VLM's released evaluation.
    "raw": Template("", "\n", "", again="\n"),
    # The prompt of nano's training: a small model spends nothing on the case of a question.
    "raw_lower": Template("", "\n", "", lower_case=True, again="\n"),
    # The prompt of the training of LLaVA-1.5 and SD-VLM.
    "vicuna_v1": Template(
        "A chat between a curious user and an artificial intelligence assistant. The assistant "
        "gives helpful, detailed, and polite answers to the user's questions. USER: ",
        "\n",
        " ASSISTANT:",
        stop="USER:",
        again="USER: ",
    ),
    # Mistral-7B-Instruct-v0.2, as LLaVA 1.6 was trained with it.
    "mistral_instruct": Template("[INST] ", "\n", " [/INST]", again="[INST] "),
    # Qwen2-VL and Qwen2.5-VL: their chat template adds this system prompt where there is none.
    "qwen2_vl": Template(
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n",
        "",
        "",
        closing="<|im_end|>\n<|im_start|>assistant\n",
        starts_itself=True,
        end="<|im_end|>",
        again="\n<|im_start|>user\n",
    ),
    "qwen3_vl": Template(
        "<|im_start|>user\n",
        "",
        "",
        closing="<|im_end|>\n<|im_start|>assistant\n",
        starts_itself=True,
        end="<|im_end|>",
        again="\n<|im_start|>user\n",
    ),
    # Qwen3.5 without thinking: the answer follows an empty thought.
    "qwen3_5": Template(
        "<|im_start|>user\n",
        "",
        "",
        closing="<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
        starts_itself=True,
        end="<|im_end|>",
        again="\n<|im_start|>user\n",
    ),
    # PaliGemma; "<bos>" follows its image, and a line break ends the question.
    "paligemma": Template("", "", "\n", starts_itself=True),
    # LLaVA-OneVision: Qwen2 with the system text of its training.
    "llava_onevision": Template(
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n",
        "\n",
        "",
        closing="<|im_end|>\n<|im_start|>assistant\n",
        end="<|im_end|>",
        again="\n<|im_start|>user\n",
    ),
    # InternVL3 and 3.5, without a system text as their chat template has it.
    "internvl": Template(
        "<|im_start|>user\n",
        "\n",
        "",
        closing="<|im_end|>\n<|im_start|>assistant\n",
        end="<|im_end|>",
        again="\n<|im_start|>user\n",
    ),
    # SmolVLM2, SmolVLM and Idefics3; "<|im_start|>" is SmolVLM's beginning of sequence.
    "smolvlm": Template(
        "User:",
        "",
        "",
        closing="<end_of_utterance>\nAssistant:",
        lead=" ",
        end="<end_of_utterance>",
        again="\nUser: ",
    ),
    # Gemma 3; a blank line surrounds its image, and the line before it ends `before`.
    "gemma3": Template(
        "<start_of_turn>user\n",
        "\n\n",
        "",
        closing="<end_of_turn>\n<start_of_turn>model\n",
        end="<end_of_turn>",
        again="\n<start_of_turn>user\n",
    ),
}


def template(name: str) -> Template:
    """A template by name; an unknown name raises CheckpointError."""
    if not isinstance(name, str) or name not in TEMPLATES:
        given = shown(repr(name))
        raise CheckpointError(f"prompt template must be one of {sorted(TEMPLATES)}, got {given}")
    return TEMPLATES[name]


def check_question(text: str) -> str:
    """The question, stripped; raises QueryError when it is empty, too long, or not Unicode text."""
    question = text.strip()
    if not question:
        raise QueryError("the question is empty; ask for example 'How tall is the red mug?'")
    if len(question) > MAX_QUESTION_CHARS:
        raise QueryError(
            f"the question has {len(question)} characters; at most {MAX_QUESTION_CHARS} are allowed"
        )
    if not _is_unicode(question):
        raise QueryError(f"the question is not Unicode text: {shown(question)!r}")
    return question


def _is_unicode(text: str) -> bool:
    """Whether a text has no lone surrogates; Python makes them of bytes that are not UTF-8."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def prefix_ids(
    tokenizer: Tokenizer, form: Template, image_id: int, pieces: Sequence[str | int]
) -> list[int]:
    """Ids that all questions about a frame share: start, opening text, the image.

    Args:
        pieces: of the image (`Backbone.image_pieces`): text, and numbers of placeholders.

    Raises:
        CheckpointError: the image's id is also that of a word of the text.
    """
    ids = [] if form.starts_itself or tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    text = form.before
    for piece in pieces:
        if isinstance(piece, str):
            text += piece
            continue
        ids += tokenizer.encode(text, add_special_tokens=False) if text else []
        ids += [image_id] * piece
        text = ""
    ids += tokenizer.encode(text, add_special_tokens=False) if text else []
    if ids.count(image_id) != sum(piece for piece in pieces if isinstance(piece, int)):
        raise CheckpointError(
            f"the image_token_id {image_id} is a word of the prompt too; the tokenizer does not "
            "fit the model"
        )
    return ids


def question_ids(
    tokenizer: Tokenizer, form: Template, question: str, image_id: int | None = None
) -> list[int]:
    """Ids of one question; they follow the prefix.

    Args:
        image_id: the id of an image token; never part of the result.

    Raises:
        QueryError: the tokenizer fails on the question, or makes a control token of its text.
    """
    return _asked(tokenizer, form, form.between, question, image_id)


def further_ids(
    tokenizer: Tokenizer, form: Template, question: str, image_id: int | None = None
) -> list[int]:
    """Ids of a question that follows the end token of an answer; else as `question_ids`.

    What stands in `again` after its last control token is one text with the question, as in a
    conversation that is tokenised whole.
    """
    marks = [text for text in tokenizer.all_special_tokens if text in form.again]
    split = max((form.again.rindex(text) + len(text) for text in marks), default=0)
    head = form.again[:split]
    ids = tokenizer.encode(head, add_special_tokens=False) if head else []
    return ids + _asked(tokenizer, form, form.again[split:], question, image_id)


def _asked(
    tokenizer: Tokenizer, form: Template, opening: str, question: str, image_id: int | None
) -> list[int]:
    text = opening + form.words(question) + form.after
    with library_guard(QueryError, f"the tokenizer fails on the question {shown(question)!r}"):
        ids = tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
        control = {*tokenizer.all_special_ids, image_id} - {tokenizer.unk_token_id}
    if not control.isdisjoint(ids):
        raise QueryError(f"the question contains a control token of the model: {shown(question)!r}")
    closing = tokenizer.encode(form.closing, add_special_tokens=False) if form.closing else []
    return ids + closing


def reply_ids(tokenizer: Tokenizer, form: Template, answer: str) -> list[int]:
    """Ids of an answer with its end token, as a model is trained to write them.

    Raises:
        CheckpointError: the tokenizer lacks the template's end token.
    """
    ids = tokenizer.encode(form.lead + answer, add_special_tokens=False)
    return [*ids, end_id(tokenizer, form)]


def end_id(tokenizer: Tokenizer, form: Template) -> int:
    """The token that ends an answer; raises CheckpointError where the tokenizer lacks it."""
    if not form.end:
        return tokenizer.eos_token_id
    ids = tokenizer.encode(form.end, add_special_tokens=False)
    if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
        raise CheckpointError(f"the tokenizer lacks the template's end token {form.end!r}")
    return ids[0]


def answer_limit(prefix: int, question: int, wanted: int, context: int | None) -> int:
    """The largest number of tokens of an answer: `wanted`, or what the model's context leaves.

    Args:
        prefix, question: tokens before the answer.
        context: tokens of the model's context; None = unlimited.

    Raises:
        QueryError: fewer than `wanted` and fewer than `MIN_ANSWER_ROOM` tokens are left.
    """
    if context is None:
        return wanted
    room = context - prefix - question
    needed = min(wanted, MIN_ANSWER_ROOM)
    if room < needed:
        raise QueryError(
            f"the question has {question} tokens; at most {max(0, context - prefix - needed)} are "
            f"allowed: the model's context has {context} tokens, the image takes {prefix} and the "
            f"answer {needed}; ask a shorter question"
        )
    return min(wanted, room)
