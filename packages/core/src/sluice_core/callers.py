"""The caller: whom a verified token speaks for, and how the authorizer tells the other functions.

Apart from `sluice_core.identity`, so that reading a caller does not cost the import of a JWT library.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

ADMIN_GROUP = "apiAdmins"
# The owner becomes a message group on SQS and a part of keys: at most 128 characters, nothing to escape.
_OWNER = re.compile(r"[A-Za-z0-9_-]{1,128}")


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom a token speaks for: the user's ``sub``, which owns their jobs, and their groups."""

    owner: str
    groups: tuple[str, ...] = ()

    @property
    def is_admin(self) -> bool:
        """Whether the caller may read and cancel every owner's jobs."""
        return ADMIN_GROUP in self.groups

    def context(self) -> dict[str, str]:
        """Return the authorizer's context, which holds flat strings only (API Gateway Developer Guide).

        A group's name may contain a comma; such a name is left out, lest "x,apiAdmins" be read as two.
        """
        groups = ",".join(group for group in self.groups if "," not in group)
        return {"owner": self.owner, "ownerTag": owner_tag(self.owner), "groups": groups}

    @classmethod
    def from_context(cls, context: Mapping[str, Any]) -> Self:
        """Read back what `context` wrote, from a proxy event's ``requestContext.authorizer``."""
        return cls(context["owner"], tuple(filter(None, context["groups"].split(","))))


def is_owner(text: str) -> bool:
    """Whether a text can name an owner at all."""
    return _OWNER.fullmatch(text) is not None


def owner_tag(owner: str) -> str:
    """Return eight hex digits that bind a gateway-made id to its owner, so that a stranger's is a plain 404."""
    return hashlib.sha256(owner.encode()).hexdigest()[:8]
