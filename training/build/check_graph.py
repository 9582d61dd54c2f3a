"""The scene graph of a row, as `training.build.check` reads it: its objects by name.

Does not know questions.
"""

from __future__ import annotations

import re

from training.build.check_labels import Entry, named


class Mismatch(ValueError):
    """A turn whose answer does not follow from the scene graph; the message gives the reason."""


class Graph:
    """The scene graph of a row, with its objects by name."""

    def __init__(self, entries: list[Entry]) -> None:
        """Raises Mismatch: a name does not belong to exactly one object that is one thing."""
        self.entries = entries
        self.named = {entry["name"]: entry for entry in entries if entry["name"]}
        if len(self.named) != sum(bool(entry["name"]) for entry in entries):
            raise Mismatch("two objects have the same name")
        for name, entry in self.named.items():
            self._single(name, entry)
        longest = sorted(self.named, key=len, reverse=True)
        alternatives = "|".join(re.escape(name) for name in longest) or "(?!)"
        self._pattern = re.compile(rf"\b(?:{alternatives})\b")

    def _single(self, name: str, entry: Entry) -> None:
        """Refuse the name of what is not exactly one known thing, or is among several of them."""
        thing, one = named(entry["label"])
        if not one or thing != entry["category"]:
            raise Mismatch(
                f"{name}: {entry['label']!r} is read as {thing or 'nothing known'}, "
                f"{'one' if one else 'not one'}, expected one {entry['category']}"
            )
        several = [e["label"] for e in self.entries if named(e["label"]) == (thing, False)]
        if several:
            raise Mismatch(f"{name} may also be one of {several}")

    def mentions(self, text: str) -> list[str]:
        """The names in a text, in order."""
        return self._pattern.findall(text)

    def objects(self, text: str, count: int) -> list[Entry]:
        """Exactly `count` objects named in a text, in order."""
        names = self.mentions(text)
        if len(names) != count:
            raise Mismatch(f"the text names {names}, expected {count} objects")
        return [self.named[name] for name in names]
