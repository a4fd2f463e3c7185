"""A first form of `workflow_step`: it does nothing yet, so that templates can name it."""

from __future__ import annotations

from typing import Any


def handler(_event: Any, _context: object) -> dict[str, Any]:
    """Do nothing."""
    return {}
