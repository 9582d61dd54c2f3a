"""The names of a node's cameras: which are refused, and why.

For the node's parameter and for the launch argument; imports nothing that the Python of a launch
file may lack.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

#: Largest number of cameras of a node.
MAX_CAMERAS = 8
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")


def refusal(names: Sequence[str]) -> str:
    """Why the names of the cameras are refused; "" = they are not. [""] = one without a name."""
    if not 1 <= len(names) <= MAX_CAMERAS:
        return f"cameras has {len(names)} names; it must have 1 to {MAX_CAMERAS}"
    if [*names] == [""]:
        return ""
    wrong = [name for name in names if not _NAME.fullmatch(name)]
    if wrong:
        return (
            f"cameras has the name {wrong[0][:64]!a}; a name has letters, digits and _, with "
            "a letter first, and at most 64 characters"
        )
    twice = [name for name in names if names.count(name) > 1]
    return f"cameras has the name {twice[0]} twice" if twice else ""
