"""A template file -> the words of a question for a model, such as those of Q-Spatial's prompts.

Q-Spatial asks for `\\scalar{...} \\distance_unit{...}` in a system prompt and has four forms of the
question. Its release keeps them as text files with `{{ question }}`, and `system_prompt.txt` beside
them; they are read from there and no copy is held here. The system prompt is put before the
question, because not every model has a separate place for it: the release sends it separately.

Changes what a model reads, not what is judged. Does not know models or benchmarks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sdvlm_core.frame import RgbdFrame

if TYPE_CHECKING:
    from training.evaluate.endpoint_model import AnswerFrame
    from training.evaluate.predict import Answer

_PLACE = re.compile(r"\{\{ *question *\}\}")
_SYSTEM = "system_prompt.txt"
_MAX_BYTES = 20_000


class TemplateError(ValueError):
    """A file is no template; names it and what it needs."""


@dataclass(frozen=True)
class Template:
    """What stands before and after a question."""

    before: str
    after: str

    def words(self, question: str) -> str:
        """The question in its template."""
        return f"{self.before}{question}{self.after}"


def read_template(file: Path) -> Template:
    """A text with one `{{ question }}`, after the text of system_prompt.txt beside it, if any.

    Raises:
        TemplateError: the file has no place, or several, for the question, or is too long.
        OSError: a file cannot be read.
    """
    system = file.with_name(_SYSTEM)
    texts = [_text(one) for one in ([system] if system.is_file() else []) + [file]]
    parts = _PLACE.split("\n\n".join(texts))
    if len(parts) != 2:
        raise TemplateError(
            f"{file} must have one {{{{ question }}}} (with {_SYSTEM} beside it, if there is one), "
            f"has {len(parts) - 1}"
        )
    return Template(*parts)


def _text(file: Path) -> str:
    size = file.stat().st_size
    if size > _MAX_BYTES:
        raise TemplateError(f"{file} has {size} bytes; a template has at most {_MAX_BYTES}")
    try:
        return file.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError as error:
        raise TemplateError(f"{file} is not UTF-8 text: {error}") from error


def in_template(answers: AnswerFrame, template: Template) -> AnswerFrame:
    """A model that is asked in the words of a template."""

    def asked(frame: RgbdFrame, questions: Sequence[str]) -> list[Answer]:
        return answers(frame, [template.words(question) for question in questions])

    return asked
