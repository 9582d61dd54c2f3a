"""What the questions of a shard have said so far, so that no answer can be guessed from words.

`Balance` refuses an answer that is too frequent in its type, and keeps how often every name and
form of a question was used of objects that are there and of objects that are not: `absent` draws
from it. Its counts depend on earlier views of the same shard only. Does not know how a question is
worded.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

from training.build.questions.facts import Order, answer_facts
from training.build.questions.question import Question
from training.build.questions.usual import Usual
from training.build.questions.view import View
from training.build.scene import Entry


@dataclass(frozen=True)
class Name:
    """The name of an object in two parts: "red", or "", and its label."""

    before: str
    label: str
    category: str

    @classmethod
    def of(cls, name: str, item: Entry) -> Name:
        """The name of an entry; a name without the label is one part."""
        before, found, _ = name.rpartition(item["label"])
        if not found or not name.endswith(found):
            return cls("", name, item["category"])
        return cls(before.strip(), found, item["category"])

    def __str__(self) -> str:
        return f"{self.before} {self.label}".strip()


#: Types that ask for a measure of objects that are there, as existence does of one that is not.
MEASURED = ("scale_estimation", "absolute_distance")


@dataclass(eq=False)
class Uses:
    """How often words were said of what is there, and of what is not.

    names: every name that was said of what is there, by its words.
    """

    present: Counter[str] = field(default_factory=Counter)
    absent: Counter[str] = field(default_factory=Counter)
    names: dict[str, Name] = field(default_factory=dict)

    def add(self, name: Name, present: bool) -> None:
        """Count one use of a name."""
        (self.present if present else self.absent).update((name.before, name.label))
        if present:
            self.names[str(name)] = name

    def owed(self, word: str) -> float:
        """How many uses for what is absent are missing, to be as frequent as for what is there."""
        share = self.present[word] / max(1, self.present.total())
        return share * (self.absent.total() + 1) - self.absent[word]


@dataclass(eq=False)
class Balance:
    """Counts of the accepted questions of a shard.

    Attributes:
        counts: type -> class of its answer -> number. Numbers are counted in half octaves (metres,
            counts).
        measured, there: names in questions for a measure, and in "is there a ...?".
        forms: quantities that are asked of what is there, and of what is not.
        wins: (type, quantity, category) -> how often its objects had more of the quantity than the
            others in a comparison, minus how often they had less. Near 0, a category tells nothing.
        usual: sizes and counts so far.
    """

    counts: dict[str, Counter[object]] = field(default_factory=dict)
    measured: Uses = field(default_factory=Uses)
    there: Uses = field(default_factory=Uses)
    forms: Uses = field(default_factory=Uses)
    wins: Counter[object] = field(default_factory=Counter)
    usual: Usual = field(default_factory=Usual)

    def accepts(self, question: Question, view: View) -> bool:
        """Whether this answer is not too frequent or expected; an accepted question is counted."""
        counts = self.counts.setdefault(question.type, Counter())
        key = _key(question)
        category = _category(question, view)
        if self._is_frequent(question.type) and self.usual.expects(question, category):
            return False
        mean = counts.total() / max(1, len(counts))
        if counts[key] > 2 * mean + 8:
            return False
        changes = _wins(question, view)
        if any(
            abs(self.wins[cell] + change) > max(abs(self.wins[cell]), largest)
            for largest in [max(map(abs, changes.values()), default=0)]
            for cell, change in changes.items()
        ):
            return False
        for cell, change in changes.items():
            self.wins[cell] += change
        counts[key] += 1
        self.usual.add(question, category)
        self._count_names(question, view)
        return True

    def _is_frequent(self, kind: str) -> bool:
        """Whether a type has half of the mean: usual answers of a rare type are not refused."""
        totals = [counts.total() for counts in self.counts.values()]
        return 2 * self.counts[kind].total() * len(totals) >= sum(totals)

    def _count_names(self, question: Question, view: View) -> None:
        if question.type not in (*MEASURED, "existence"):
            return
        uses, present = self.measured, question.reference != "absent"
        if question.reference in ("yes", "no"):
            uses, present = self.there, question.reference == "yes"
        else:
            form = question.asked[0].quantity.name
            (self.forms.present if present else self.forms.absent)[form] += 1
        named = dict(view.named)
        for name, instance in zip(question.names, question.instances, strict=True):
            if present:
                uses.add(Name.of(name, named[name]), present)
            elif not instance:
                uses.add(uses.names.get(name) or Name("", name, name), present)


def _wins(question: Question, view: View) -> Counter[object]:
    """What a comparison changes in `Balance.wins`; left and right have no usual winner."""
    changes: Counter[object] = Counter()
    if question.type in ("relative_position", "scale_compare"):
        categories = {name: item["category"] for name, item in view.named}
        for fact in answer_facts(question, view):
            if isinstance(fact, Order) and fact.quantity != "x":
                changes[question.type, fact.quantity, categories[fact.greater]] += 1
                changes[question.type, fact.quantity, categories[fact.lesser]] -= 1
    return changes


def _category(question: Question, view: View) -> str:
    """The category of the first object; of a count, what is counted."""
    name = question.names[0] if question.names else ""
    return next((item["category"] for own, item in view.named if own == name), name)


def _key(question: Question) -> object:
    """The class of an answer."""
    reference = question.reference
    if isinstance(reference, str):
        return reference if reference in ("yes", "no") else "name"
    if isinstance(reference, tuple) and question.type == "grounding":
        return tuple(round(value * 5) for value in reference)
    value = reference[-1] if isinstance(reference, tuple) else reference
    return round(2 * math.log2(max(value, 1e-3)))
