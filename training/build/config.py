"""The settings of a build: everything that its content depends on, besides the scans.

Does not know how a data set is built.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from training.build.roles import Role
from training.build.selection import Rules


@dataclass(frozen=True)
class BuildConfig:
    """Settings that the content of a data set depends on.

    Attributes:
        style: a name of `phrasing.STYLES`.
        per_type: questions of each type per image, if the image allows that many.
        seed: seed of all random choices.
        rules: which images and objects are used.
        roles: (name, model) of `roles.ROLES`; () = no relabelling, no chains of thought.
    """

    style: str = "msmu"
    per_type: int = 4
    seed: int = 0
    rules: Rules = field(default_factory=Rules)
    roles: tuple[tuple[str, Role], ...] = ()

    def described(self) -> dict[str, Any]:
        """As JSON; of a role only its model, because its server may change."""
        models = {name: role.model or role.directory for name, role in self.roles}
        return asdict(self) | {"roles": models}
