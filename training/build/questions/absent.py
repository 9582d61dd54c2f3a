"""Existence in a conversation: an absent object is named as present ones are.

Its name, with or without a colour, is one that earlier views of the shard used of an object that
was there; the one that is rarest among the absent ones. So is the form of the question. Without
this, "the blue chair" is always there and "the umbrella" never, and a model need not look. Which
categories may be denied belongs to `View.categories`.
"""

from __future__ import annotations

from collections.abc import Sequence

from sdvlm_core.answer import Asked, Quantity
from training.build.phrasing import Rng, Style, fill, pick, plural, with_article
from training.build.questions.balance import Balance, Uses
from training.build.questions.question import Question
from training.build.questions.view import QUANTITIES, View, choose


def existence(view: View, rng: Rng, style: Style, balance: Balance) -> Question | None:
    """Whether an object is in the image, or a measure of one that is not (a false premise)."""
    if style.yes_no and rng.random() < 0.5:
        return _there(view, rng, style, balance)
    return _false_premise(view, rng, style, balance)


def _there(view: View, rng: Rng, style: Style, balance: Balance) -> Question | None:
    """The answer that is rarer so far, or none: the other one must not become the safe guess."""
    ask = pick(rng, style.ask["there"])
    uses = balance.there
    if uses.present.total() > uses.absent.total():
        absent = _absent_name(view, rng, uses)
        if absent is None:
            return None
        question = ask.format(a_name=with_article(absent))
        asked = (Asked(Quantity.EXISTS, (absent,)),)
        return Question("existence", question, "No.", "no", (absent,), (0,), asked)
    chosen = choose(view, 1, rng)
    if not chosen:
        return None
    name, item = chosen[0]
    question = ask.format(a_name=with_article(name))
    asked = (Asked(Quantity.EXISTS, (name,)),)
    return Question("existence", question, "Yes.", "yes", (name,), (item["instance"],), asked)


def _false_premise(view: View, rng: Rng, style: Style, balance: Balance) -> Question | None:
    name = _absent_name(view, rng, balance.measured)
    if name is None:
        return None
    names: tuple[str, ...] = (name,)
    instances: tuple[int, ...] = (0,)
    forms = [*style.measures, *(["distance"] if view.named else [])]
    what = _most_owed(rng, forms, [balance.forms.owed(QUANTITIES[form].name) for form in forms])
    if what == "distance":
        other, item = choose(view, 1, rng)[0]
        names, instances = (name, other), (0, item["instance"])
        if rng.random() < 0.5:
            names, instances = names[::-1], instances[::-1]
        question = fill(rng, style.ask[what], a=names[0], b=names[1])
    else:
        question = fill(rng, style.ask[what], name=name, what=what)
    answer = fill(rng, style.answer["absent"], name=name, things=plural(name))
    asked = (Asked(QUANTITIES[what], names),)
    return Question("existence", question, answer, "absent", names, instances, asked)


def _absent_name(view: View, rng: Rng, uses: Uses) -> str | None:
    """A name of no object in view; None = every category that may be denied is in view."""
    absent = view.categories
    if not absent:
        return None
    known = [name for name in uses.names.values() if name.category in absent]
    if known:
        owed = [uses.owed(name.before) + uses.owed(name.label) for name in known]
        return str(known[_largest(rng, owed)])
    if uses.absent:
        return None
    # The first absent thing of a shard; with a colour as often as the objects of this view.
    category = pick(rng, absent)
    name, item = choose(view, 1, rng)[0] if view.named else ("", {"label": "", "colour": ""})
    return f"{item['colour']} {category}" if name != item["label"] else category


def _most_owed(rng: Rng, options: Sequence[str], owed: Sequence[float]) -> str:
    return options[_largest(rng, owed)]


def _largest(rng: Rng, values: Sequence[float]) -> int:
    """The index of the largest value; of equal ones, any."""
    order = [int(index) for index in rng.permutation(len(values))]
    return max(order, key=lambda index: values[index])
