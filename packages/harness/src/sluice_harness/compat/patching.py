"""How the compatibility layer replaces a private symbol of the engine: only when it is the one we know.

`ENGINE_VERSION` in the package pins the release; the checks here name the very symbol, so that whoever raises
the pin reads which module to look at instead of meeting a wrong behaviour in a test far away.
"""

from __future__ import annotations

import inspect
from typing import Any


def expect(owner: Any, name: str, *parameters: str) -> Any:
    """Return ``owner.name``, or raise `RuntimeError` unless it exists and takes exactly these parameters."""
    where = f"{getattr(owner, '__name__', type(owner).__name__)}.{name}"
    if not hasattr(owner, name):
        raise RuntimeError(f"the engine has no {where}: read its source and adapt what replaces it")
    found = getattr(owner, name)
    if callable(found) and not inspect.isclass(found):
        have = tuple(inspect.signature(found).parameters)
        if have != parameters:
            raise RuntimeError(f"the engine's {where} takes {have}, not {parameters}: adapt its replacement")
    return found


def replace_once(owner: Any, name: str, old: str, new: str) -> None:
    """Replace ``old`` in the string ``owner.name``; raise `RuntimeError` unless it occurs exactly once."""
    text = getattr(owner, name, None)
    count = text.count(old) if isinstance(text, str) else 0
    if not isinstance(text, str) or count != 1:
        raise RuntimeError(f"{owner.__name__}.{name} holds {count} times, not once: {old.strip()!r}")
    setattr(owner, name, text.replace(old, new))
